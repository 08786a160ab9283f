"""This machine's cpu, memory, network and disks, by psutil."""

import math

import psutil

from libs.common.ports import HostReading

LOOPBACK = "lo"
IDLE = ("idle", "iowait", "guest", "guest_nice")  # guest time stands in user time already


class PsutilHost:
    """The machine that this process runs on, as the `Host` port says."""

    def __init__(self) -> None:
        self._disk_ms: dict[str, int] = {}
        self._disk_busy_s = 0.0

    def read(self) -> HostReading:
        """Return cpu, memory and network; loopback is no network."""
        cpu = psutil.cpu_times()
        memory = psutil.virtual_memory()
        network = psutil.net_io_counters(pernic=True)
        moved = [n.bytes_sent + n.bytes_recv for name, n in network.items() if name != LOOPBACK]
        return HostReading(
            # A sum of what only grows never falls. All less the idle would, by a rounding error,
            # and a counter that falls counts as begun anew.
            cpu_busy_s=sum(s for name, s in cpu._asdict().items() if name not in IDLE),
            cpu_count=float(psutil.cpu_count() or math.nan),
            memory_used_bytes=float(memory.total - memory.available),
            memory_total_bytes=float(memory.total),
            network_bytes=float(sum(moved)) if moved else math.nan,
        )

    def disk_busy_s(self) -> float:
        """Return the busy seconds so far, adding at each call those of the disk that was busiest.

        The largest of the disks' own counters would not do: it stands still while another disk,
        idle until now, is at work.
        """
        try:
            counters = psutil.disk_io_counters(perdisk=True) or {}
        except NotImplementedError:  # a sandbox that shows no disks
            return math.nan
        disks = {n: d.busy_time for n, d in counters.items() if hasattr(d, "busy_time")}
        if not disks:
            return math.nan
        grown_ms = [ms - self._disk_ms.get(name, ms) for name, ms in disks.items()]
        self._disk_busy_s += max(0, *grown_ms) / 1000
        self._disk_ms = disks
        return self._disk_busy_s
