"""What a service tells of itself: JSON log lines, `/metrics`, `/healthz`, `/readyz`, a watchdog.

A service that is alive but does nothing is worse than a dead one, because nobody replaces it. So
each says what it needs to be at work (`Health.ready_when`); `/readyz` shows what is missing, and
when that lasts, the process ends itself, and whoever started it starts it again.
"""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from socketserver import ThreadingMixIn
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import structlog
from prometheus_client import Counter, Gauge, make_wsgi_app

Probe = Callable[[], str | None]
Start = Callable[[str, list[tuple[str, str]]], Any]

DEAD_LETTERS = Counter(
    "plimsoll_dead_letters_total", "Messages that could not be read, by topic of origin", ["topic"]
)
BUS_PUBLISHED = Counter(
    "plimsoll_bus_published_total", "Messages that the bus has acknowledged or committed", ["topic"]
)
BUS_READ = Counter("plimsoll_bus_read_total", "Messages read, those of a replay again", ["topic"])
BUS_LAG = Gauge(
    "plimsoll_bus_lag_messages", "Messages that lie on a topic and are not read yet", ["topic"]
)
# The libraries that speak at length when a broker is away; one line a second of all is enough.
CHATTY = ("aiokafka", "faust", "mode", "kafka")
LIMITED = (*CHATTY, "libs.common.adapters.kafka")  # what we ourselves say of the bus counts too
EXIT_STUCK = 70  # EX_SOFTWARE: the supervisor sees that this was no clean end
BLOCKED_AFTER_S = 5.0


class Sum:
    """A counter that is kept level with a sum which is kept elsewhere, and may begin anew there."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str]) -> None:
        self._counter = Counter(name, documentation, labels)
        self._level: dict[tuple[str, ...], float] = {}

    def reach(self, value: float, *labels: str) -> None:
        """Count up to `value`; one below the last is what has come since a new beginning."""
        grown = value - self._level.get(labels, 0.0)
        self._level[labels] = value
        self._counter.labels(*labels).inc(grown if grown >= 0 else value)


class Health:
    """Whether this service is at work. Probes run on the event loop; readers are other threads."""

    def __init__(self, stuck_after_s: float) -> None:
        self._stuck_after_s = stuck_after_s
        self._probes: dict[str, Probe] = {}
        self._harmless: set[str] = set()
        self._missing: dict[str, str] = {"start": "starting"}
        self._bad_since: dict[str, float] = {}
        self._beat = time.monotonic()

    def ready_when(self, name: str, probe: Probe, *, vital: bool = True) -> None:
        """Ask `probe` each second; it returns None when all is well, else what is missing.

        What a new process would not mend (a broker that is away) is not `vital`: it is shown only.
        """
        self._probes[name] = probe
        if not vital:
            self._harmless.add(name)

    def forget(self, name: str) -> None:
        """Drop a probe whose subject is gone."""
        self._probes.pop(name, None)

    def check(self) -> None:
        """Run every probe once; call it on the event loop, which this proves alive."""
        now = self._beat = time.monotonic()
        missing = {name: said for name, probe in self._probes.items() if (said := probe())}
        self._bad_since = {
            name: self._bad_since.get(name, now) for name in missing if name not in self._harmless
        }
        self._missing = missing

    def missing(self) -> dict[str, str]:
        """Return what keeps this service from its work; empty when it is ready."""
        silent_s = time.monotonic() - self._beat
        if silent_s > BLOCKED_AFTER_S:
            return {**self._missing, "event loop": f"blocked for {silent_s:.0f} s"}
        return self._missing

    def stuck(self) -> str | None:
        """Return why this process should be replaced, or None."""
        now = time.monotonic()
        if now - self._beat > self._stuck_after_s:
            return f"the event loop has been blocked for {now - self._beat:.0f} s"
        for name, since in self._bad_since.items():
            if now - since > self._stuck_after_s:
                return f"{name}: {self._missing.get(name)} (for {now - since:.0f} s)"
        return None


def watch(health: Health) -> None:
    """End the process when `health` says it is stuck; runs in a thread of its own, for ever."""

    def loop() -> None:
        while True:
            time.sleep(1.0)
            reason = health.stuck()
            if reason is not None:
                structlog.get_logger().critical("stuck, ending this process", reason=reason)
                sys.stdout.flush()
                os._exit(EXIT_STUCK)  # a blocked event loop would not see an exception

    threading.Thread(target=loop, name="watchdog", daemon=True).start()


def serve_http(health: Health, host: str, port: int) -> int:
    """Serve `/metrics`, `/healthz` and `/readyz` from a thread; port 0 takes a free one.

    Returns:
        The port. A port in use raises OSError.
    """
    metrics = make_wsgi_app()

    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            return cast(Iterable[bytes], metrics(environ, start_response))
        if path not in ("/healthz", "/readyz"):
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"try /metrics, /healthz or /readyz\n"]
        missing = health.missing()
        ready = path == "/healthz" or not missing
        status = "200 OK" if ready else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps({"ready": not missing, "missing": missing}).encode() + b"\n"]

    server = make_server(host, port, app, server_class=_Server, handler_class=_Quiet)
    threading.Thread(target=server.serve_forever, name="telemetry", daemon=True).start()
    return int(server.server_address[1])


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # one client that says nothing must not keep the others waiting


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a scrape each two seconds is no news."""


def configure_logs(service: str, instance: str, level: str) -> None:
    """Write one JSON object a line to stdout, from our own code and from the libraries alike."""

    def named(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        # Not by context variables: those of the main thread are unknown to the watchdog's.
        return {"service": service, "instance": instance, **event}

    shared: list[structlog.typing.Processor] = [
        named,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(OneASecond())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in CHATTY:
        # Their debug and info lines would be built and thrown away: half the time of a Faust agent.
        logging.getLogger(name).setLevel(logging.WARNING)


class OneASecond(logging.Filter):
    """Lets one line a second of the chatty libraries through, and says how many it held back."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._now = now
        self._last = float("-inf")
        self._held = 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide on one line; the summary rides on the next one that passes."""
        if not record.name.startswith(LIMITED):
            return True
        now = self._now()
        if now - self._last < 1.0:
            self._held += 1
            return False
        if self._held and isinstance(record.msg, dict):  # one of our own, by structlog
            record.msg = {**record.msg, "lines_held_back": self._held}
        elif self._held:
            record.msg = f"{record.getMessage()} (and {self._held} more lines held back)"
            record.args = ()
        self._last, self._held = now, 0
        return True
