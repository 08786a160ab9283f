"""A real Kafka broker on this machine, without Docker: Java runs it, Maven fetches its jars.

One KRaft node, everything under `<base>/kafka`: `libs` (jars, kept), `data`, `server.properties`,
`kafka.log`. Meant for demos and tests: one copy of the data, no security, loopback only. It needs
no Kafka client: readiness is one metadata request written by hand.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.local.processes import LocalError, ProjectLock, Say, end, last_lines, spawn

JAVA_NEEDED = 17
WANTED_PORT = 9092
DEPLOY = Path(__file__).parents[2] / "deploy" / "kafka"
HOST = "127.0.0.1"

FETCH_AT_MOST_S = 600.0
START_AT_MOST_S = 60.0
STOP_AT_MOST_S = 20.0
SAY_EVERY_S = 2.0

NO_KAFKA = (
    "Give the address of a running broker in PLIMSOLL_KAFKA__BOOTSTRAP_SERVERS, or let Plimsoll "
    f"run one: install Java {JAVA_NEEDED} or newer and Maven "
    "(Debian, Ubuntu: apt-get install openjdk-17-jre-headless maven)."
)

# Measured on two cores, from nothing to the first metadata answer, storage format included: 4.0 s
# with Java's defaults, 3.1 s with the first two flags, 1.7 s with the archive of loaded classes.
# C1 alone also leaves more for the services beside it: at 1,000 messages/s the broker then takes
# 0.26 of a core, with C2 0.5 to 0.7 in the first ten seconds.
FAST_START = (
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xmx512m",
    "-XX:+IgnoreUnrecognizedVMOptions",
    "-Djava.awt.headless=true",
    "-Dlog4j2.StatusLogger.level=OFF",
    "-Dorg.slf4j.simpleLogger.logFile=System.out",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)


@dataclass(frozen=True)
class Java:
    """A Java that is new enough: its program and its full version text."""

    program: str
    version: str


class LocalKafka:
    """One broker: start, stop or kill it, start it again on the same port and data, in `home`.

    Data is fresh at the first start unless `keep_data`. A `port` of 0, or one in use, becomes a
    free one; it is chosen at the first start and kept. `libs` may point at another folder's jars;
    `jvm_flags` replaces the archive of classes. Methods block, so call them in a thread from async
    code; any thread will do. As a context manager it is started on entry and stopped on exit.
    """

    def __init__(
        self,
        base: Path,
        *,
        port: int = WANTED_PORT,
        keep_data: bool = False,
        libs: Path | None = None,
        jvm_flags: tuple[str, ...] | None = None,
        say: Say = print,
    ) -> None:
        self.home = base.resolve() / "kafka"
        self._libs = self.home / "libs" if libs is None else libs.resolve()
        self._log = self.home / "kafka.log"
        self._lock = ProjectLock(self.home / "kafka.lock", "a local Kafka")
        self._wanted_port = port
        self._keep_data = keep_data
        self._say = say
        self._jvm_flags = jvm_flags
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def bootstrap_servers(self) -> str:
        """The broker's address, the same from the first start on."""
        assert self._port is not None, "the port is chosen at the first start"
        return f"{HOST}:{self._port}"

    @property
    def running(self) -> bool:
        """Whether the broker's process lives; False also when it died by itself."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int | None:
        """The broker's process id while it runs."""
        return self._process.pid if self._process is not None and self.running else None

    def start(self) -> str:
        """Run the broker until it answers metadata requests; its address.

        The first time ever, jars are fetched (seconds to minutes, said on the way). Raises
        LocalError for what a person can mend: no Java, no jars, a broker that dies (with its last
        lines), one already running in this folder. A failed start leaves nothing running.
        """
        if self.running:
            return self.bootstrap_servers
        self._release()
        java = find_java()
        fetch_jars(self._libs, say=self._say)
        if self._jvm_flags is None:
            self._jvm_flags = _class_archive_flags(java, self._libs, self._say)
        self._lock.acquire()
        try:
            if self._port is None:
                self._prepare(java)
            self._process = spawn(
                self._java(java, "kafka.Kafka", str(self.home / "server.properties")),
                log=self._log,
            )
            self._wait_until_ready()
        except OSError as error:
            self.kill()
            raise LocalError(f"Kafka cannot be started: {error}") from error
        except BaseException:
            self.kill()
            raise
        return self.bootstrap_servers

    def stop(self, timeout_s: float = STOP_AT_MOST_S) -> bool:
        """Stop the broker cleanly, by force after `timeout_s`: whether no force was needed.

        Data and port stay. Harmless when it does not run.
        """
        return self._release(timeout_s) != -signal.SIGKILL

    def kill(self) -> None:
        """End the broker with -9, as a crash would. Data and port stay."""
        self._release(timeout_s=0.0)

    def failure(self, what: str) -> LocalError:
        """An error that says `what` and shows the broker's last lines, to be raised."""
        return LocalError(f"{what}. The last lines of {self._log}:\n{last_lines(self._log, 15)}")

    def _release(self, timeout_s: float = 0.0) -> int:
        """End the process, if any, and let go of the folder; its exit code."""
        code = 0
        if self._process is not None:
            code = end(self._process, timeout_s)
            self._process = None
        self._lock.release()
        return code

    def _prepare(self, java: Java) -> None:
        """Choose ports, write the settings, format the storage: once in this object's life."""
        data = self.home / "data"
        if not self._keep_data:
            shutil.rmtree(data, ignore_errors=True)
        self._log.unlink(missing_ok=True)
        broker, controller = free_ports(self._wanted_port, 0)
        properties = self.home / "server.properties"
        properties.write_text(
            (DEPLOY / "server.properties").read_text()
            + f"\nlisteners=PLAINTEXT://{HOST}:{broker},CONTROLLER://{HOST}:{controller}\n"
            f"advertised.listeners=PLAINTEXT://{HOST}:{broker}\n"
            f"controller.quorum.voters=1@{HOST}:{controller}\n"
            f"log.dirs={data}\n"
        )
        if not (data / "meta.properties").exists():
            cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            # With an equals sign: one id in 64 begins with a dash and would pass for an option.
            options = ("format", f"--cluster-id={cluster}", "--config", str(properties))
            formatter = spawn(self._java(java, "kafka.tools.StorageTool", *options), log=self._log)
            try:
                code = formatter.wait(START_AT_MOST_S)
            except subprocess.TimeoutExpired:
                code = -1
            finally:
                end(formatter, timeout_s=0.0)
            if code != 0:
                raise self.failure("Kafka's storage could not be formatted")
        self._port = broker

    def _java(self, java: Java, main: str, *arguments: str) -> list[str]:
        # The jars are named one by one, sorted: an archive of classes is valid for one class path.
        jars = ":".join(str(jar) for jar in sorted(self._libs.glob("*.jar")))
        return [java.program, *FAST_START, *(self._jvm_flags or ()), "-cp", jars, main, *arguments]

    def _wait_until_ready(self) -> None:
        assert self._port is not None
        started = said = time.monotonic()
        while not answers_metadata(self._port):
            now = time.monotonic()
            if not self.running:
                raise self.failure("Kafka ended while starting")
            if now - started > START_AT_MOST_S:
                raise self.failure(f"Kafka did not answer within {START_AT_MOST_S:.0f} s")
            if now - said > SAY_EVERY_S:
                said = now
                self._say(f"Kafka is starting on port {self._port}: {now - started:.0f} s")
            time.sleep(0.05)


@contextlib.contextmanager
def broker_at(
    given: str | None, base: Path, *, port: int = WANTED_PORT, say: Say = print
) -> Iterator[str]:
    """The address of a broker to use: the given one untouched, or a local one for this block."""
    if given:
        yield given
        return
    with LocalKafka(base, port=port, say=say) as kafka:
        yield kafka.bootstrap_servers


def run_kafka_foreground(
    base: Path,
    *,
    port: int = WANTED_PORT,
    keep_data: bool = False,
    libs: Path | None = None,
    say: Say = print,
) -> None:
    """Run a broker until Ctrl-C or SIGTERM, then stop it cleanly. Call it from the main thread.

    Raises LocalError as `LocalKafka.start` does, and when the broker dies by itself.
    """
    # SIGTERM as Ctrl-C, so that `kill` stops the broker cleanly too.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    kafka = LocalKafka(base, port=port, keep_data=keep_data, libs=libs, say=say)
    try:
        say(f"Kafka answers at {kafka.start()} (Ctrl-C stops it)")
        while kafka.running:
            time.sleep(0.2)
        raise kafka.failure("Kafka ended by itself")
    except KeyboardInterrupt:
        say("Stopping Kafka")
    finally:
        kafka.stop()
        signal.signal(signal.SIGTERM, before)


def find_java() -> Java:
    """The Java on the PATH. Raises LocalError where there is none, or it is too old."""
    program = shutil.which("java")
    if program is None:
        raise LocalError(f"No Java found, which Kafka needs. {NO_KAFKA}")
    answer = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    major, version = java_version(answer.stderr)
    if major < JAVA_NEEDED:
        raise LocalError(
            f"Java {version} found ({program}), but Kafka needs {JAVA_NEEDED} or newer. {NO_KAFKA}"
        )
    return Java(program, version)


def java_version(said: str) -> tuple[int, str]:
    """(17, "17.0.15") out of what `java -version` says; (0, "of unknown version") if unreadable."""
    found = re.search(r'version "((\d+)(?:\.(\d+))?[^"]*)"', said)
    if found is None:
        return 0, "of unknown version"
    # Java 8 and older called themselves 1.8.
    major = int(found[3] or 0) if found[2] == "1" else int(found[2])
    return major, found[1]


def fetch_jars(libs: Path, *, pom: Path = DEPLOY / "pom.xml", say: Say = print) -> None:
    """Fill `libs` with the jars that `pom` names; at once if they are there already.

    Whole or not at all: an interrupted fetch leaves no half-filled folder, and two at a time
    fetch once. Raises LocalError without Maven, or when Maven fails.
    """
    wanted = hashlib.sha256(pom.read_bytes()).hexdigest()
    stamp = libs / "pom.sha256"

    def complete() -> bool:
        return stamp.exists() and stamp.read_text() == wanted

    if complete():
        return
    with contextlib.ExitStack() as cleanup:
        lock = ProjectLock(libs.with_name(f"{libs.name}.lock"), "a fetch of Kafka's jars")
        lock.acquire(wait_s=FETCH_AT_MOST_S)
        cleanup.callback(lock.release)
        if complete():
            return
        part = libs.with_name(f"{libs.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        cleanup.callback(shutil.rmtree, part, ignore_errors=True)
        _run_maven(pom, part, say)
        (part / stamp.name).write_text(wanted)
        shutil.rmtree(libs, ignore_errors=True)
        part.rename(libs)


def free_ports(*wanted: int) -> tuple[int, ...]:
    """The wanted ports where they are free, others where not; all different. 0: any."""
    with contextlib.ExitStack() as held:
        return tuple(_hold_port(port, held) for port in wanted)


def answers_metadata(port: int, timeout_s: float = 2.0) -> bool:
    """Whether a broker there answers a metadata request (version 4, no topics) with a broker."""
    request = struct.pack(">hhih i?", 3, 4, 1, -1, 0, False)  # api, version, id, client, topics
    try:
        with socket.create_connection((HOST, port), timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            with connection.makefile("rb") as answer:
                head = answer.read(16)
    except OSError:
        return False
    # Size, correlation id, throttle time, count of brokers. Brokers are ready to serve only then.
    return len(head) == 16 and struct.unpack(">iiii", head)[3] >= 1


def _run_maven(pom: Path, into: Path, say: Say) -> None:
    """Let Maven copy the jars, saying every two seconds how far it is."""
    maven = shutil.which("mvn")
    if maven is None:
        raise LocalError(f"No Maven (mvn) found, which fetches Kafka's jars. {NO_KAFKA}")
    log = into.with_name("fetch.log")
    log.unlink(missing_ok=True)
    say("Fetching Kafka's jars with Maven (once, about 40 MB)")
    started = said = time.monotonic()
    goal = ("dependency:copy-dependencies", f"-DoutputDirectory={into}")
    process = spawn([maven, "-B", "-Dstyle.color=never", "-f", str(pom), *goal], log=log)
    try:
        while process.poll() is None and time.monotonic() - started < FETCH_AT_MOST_S:
            if time.monotonic() - said > SAY_EVERY_S:
                said = time.monotonic()
                count = log.read_text(errors="replace").count("Downloaded from")
                say(f"Fetching Kafka's jars: {count} files, {said - started:.0f} s")
            time.sleep(0.1)
    finally:
        code = end(process, timeout_s=0.0)
    if code != 0:
        raise LocalError(
            f"Maven could not fetch Kafka's jars (is a Maven registry within reach?). "
            f"The last lines of {log}:\n{last_lines(log, 15)}"
        )


def _class_archive_flags(java: Java, libs: Path, say: Say) -> tuple[str, ...]:
    """The flag that lets Java map Kafka's classes from an archive; made once for each Java.

    Worth it: 50 MB of disk and one trial run halve every later start. A Java that makes no
    archive gets an empty file, which says: do not try again.
    """
    archive = libs / f"classes-{java.version}.jsa"
    if not archive.exists():
        say("Preparing Kafka for quick starts (once, about 8 s)")
        with tempfile.TemporaryDirectory(prefix="plimsoll-kafka-") as scratch:
            made = libs / f"{archive.name}.{os.getpid()}"
            flags = (f"-XX:ArchiveClassesAtExit={made}",)
            trial = LocalKafka(Path(scratch), port=0, libs=libs, jvm_flags=flags, say=say)
            trial.start()
            # Java writes the archive on its way out; one cut short must not be used.
            if not trial.stop(timeout_s=START_AT_MOST_S):
                made.unlink(missing_ok=True)
        made.touch()
        made.rename(archive)
    return (f"-XX:SharedArchiveFile={archive}",) if archive.stat().st_size else ()


def _hold_port(wanted: int, held: contextlib.ExitStack) -> int:
    """Bind a port for a moment: the wanted one, else a random one.

    Random ports stay below 32768, where Linux begins to give ports to outgoing connections: a
    client that retries a stopped broker there could be given the broker's port, and keep it.
    """
    tries = [wanted] if wanted else []
    tries += random.sample(range(15000, 32000), 50)
    for port in tries:
        probe = held.enter_context(socket.socket())
        # Without this, a port that a stopped broker just used looks taken for a minute.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            probe.bind((HOST, port))
            probe.listen()
            return port
    raise LocalError(f"no free port found on {HOST}")
