import math
import random
from collections import namedtuple

import psutil
import pytest

from libs.common.adapters.host import PsutilHost

Disk = namedtuple("Disk", "busy_time")


def test_this_machine_makes_sense() -> None:
    host = PsutilHost()
    first, second = host.read(), host.read()
    assert second.cpu_busy_s >= first.cpu_busy_s > 0
    assert first.cpu_count >= 1
    assert 0 < first.memory_used_bytes < first.memory_total_bytes
    assert math.isnan(first.network_bytes) or second.network_bytes >= first.network_bytes
    busy_s = host.disk_busy_s()
    assert math.isnan(busy_s) or busy_s >= 0


def test_busy_time_never_falls_while_only_idle_time_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    times = namedtuple("times", "user system idle iowait guest")
    rng = random.Random(1)
    idle = 0.0
    monkeypatch.setattr(psutil, "cpu_times", lambda: times(7089.31, 3600.33, idle, 12.07, 5.5))
    host = PsutilHost()
    readings = []
    for _ in range(1000):
        idle += round(rng.uniform(0, 5), 2)
        readings.append(host.read().cpu_busy_s)
    assert set(readings) == {7089.31 + 3600.33}


def test_disk_time_is_that_of_the_busiest_disk_in_each_interval(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    readings = iter(
        (
            {"a": Disk(9_000_000), "b": Disk(0)},
            {"a": Disk(9_000_100), "b": Disk(900)},
            {"a": Disk(9_000_500), "b": Disk(900)},
            {"a": Disk(9_000_500)},
        )
    )
    monkeypatch.setattr(psutil, "disk_io_counters", lambda perdisk: next(readings))
    host = PsutilHost()
    assert [host.disk_busy_s() for _ in range(4)] == pytest.approx([0, 0.9, 1.3, 1.3])


@pytest.mark.parametrize("nothing", [None, {}, {"a": object()}])
def test_without_a_disk_that_tells_nothing_is_known(
    monkeypatch: pytest.MonkeyPatch, nothing: object
) -> None:
    monkeypatch.setattr(psutil, "disk_io_counters", lambda perdisk: nothing)
    assert math.isnan(PsutilHost().disk_busy_s())
