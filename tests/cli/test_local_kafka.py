"""A real broker: it starts in seconds, keeps its data over a restart, and fails in plain words."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from cli.local import kafka as local
from cli.local.kafka import (
    LocalKafka,
    answers_metadata,
    broker_at,
    fetch_jars,
    find_java,
    free_ports,
    java_version,
)
from cli.local.processes import LocalError

ROOT = Path(__file__).parents[2]
# The jars of the checkout are shared; data, log and lock are the test's own.
LIBS = ROOT / ".plimsoll" / "kafka" / "libs"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKafka]:
    """One broker for this module; each test leaves it running."""
    need_java()
    kafka = LocalKafka(tmp_path_factory.mktemp("kafka"), port=0, libs=LIBS)
    try:
        kafka.start()
        yield kafka
    finally:
        kafka.stop()


def need_java() -> None:
    """Skip where no broker can be run; in CI that is a failure instead."""
    if os.environ.get("CI"):
        return
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


async def create_topic(address: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


async def produce(address: str, topic: str, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=address, enable_idempotence=True)
    await producer.start()
    try:
        await producer.send_and_wait(topic, value)
    finally:
        await producer.stop()


async def consume(address: str, topic: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=address, auto_offset_reset="earliest")
    await consumer.start()
    try:
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


@pytest.mark.bus
async def test_messages_survive_a_stop_and_a_kill_on_the_same_port(broker: LocalKafka) -> None:
    address = broker.bootstrap_servers
    await create_topic(address, "kept")
    await produce(address, "kept", b"before")
    assert await consume(address, "kept", 1) == [b"before"]

    assert broker.stop(), "the broker had to be killed"
    assert not broker.running
    assert not answers_metadata(int(address.rpartition(":")[2]))
    assert broker.start() == address
    await produce(address, "kept", b"between")

    broker.kill()
    assert broker.start() == address
    assert await consume(address, "kept", 2) == [b"before", b"between"]


@pytest.mark.bus
async def test_a_leader_session_of_half_a_second_is_allowed(broker: LocalKafka) -> None:
    await create_topic(broker.bootstrap_servers, "lead")
    candidate = AIOKafkaConsumer(
        "lead",
        bootstrap_servers=broker.bootstrap_servers,
        group_id="candidates",
        session_timeout_ms=500,
        heartbeat_interval_ms=150,
        rebalance_timeout_ms=500,
    )
    await candidate.start()
    try:
        assert len(candidate.assignment()) == 1
    finally:
        await candidate.stop()


@pytest.mark.bus
async def test_a_topic_nobody_created_is_not_made_up(broker: LocalKafka) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    await admin.start()
    try:
        (answer,) = await admin.describe_topics(["misspelt"])
        assert answer["error_code"] == 3  # unknown topic or partition
        assert "misspelt" not in await admin.list_topics()
    finally:
        await admin.close()


@pytest.mark.bus
def test_starting_twice_is_starting_once(broker: LocalKafka) -> None:
    pid = broker.pid
    assert broker.start() == broker.bootstrap_servers
    assert broker.pid == pid


@pytest.mark.bus
def test_a_second_broker_in_the_same_folder_is_refused(broker: LocalKafka) -> None:
    second = LocalKafka(broker.home.parent, port=0, libs=LIBS)
    with pytest.raises(LocalError, match=rf"a local Kafka already runs \(pid {os.getpid()},"):
        second.start()
    assert broker.running


@pytest.mark.bus
def test_a_new_broker_is_fresh_quick_and_gives_way_on_a_port_in_use(
    broker: LocalKafka, tmp_path: Path
) -> None:
    taken = int(broker.bootstrap_servers.rpartition(":")[2])
    began = time.monotonic()
    with LocalKafka(tmp_path, port=taken, libs=LIBS) as second:
        assert time.monotonic() - began < 10.0
        assert second.bootstrap_servers != broker.bootstrap_servers
        port = int(second.bootstrap_servers.rpartition(":")[2])
        assert answers_metadata(port)
        assert answers_metadata(taken)
    assert not answers_metadata(port)


@pytest.mark.bus
async def test_data_is_kept_for_the_next_broker_only_when_told(
    broker: LocalKafka, tmp_path: Path
) -> None:
    with LocalKafka(tmp_path, port=0, libs=LIBS) as first:
        await create_topic(first.bootstrap_servers, "kept")
        await produce(first.bootstrap_servers, "kept", b"old")
    with LocalKafka(tmp_path, port=0, libs=LIBS, keep_data=True) as second:
        assert await consume(second.bootstrap_servers, "kept", 1) == [b"old"]
    with LocalKafka(tmp_path, port=0, libs=LIBS) as third:
        admin = AIOKafkaAdminClient(bootstrap_servers=third.bootstrap_servers)
        await admin.start()
        try:
            assert await admin.list_topics() == []
        finally:
            await admin.close()


@pytest.mark.bus
def test_a_broker_that_dies_at_start_shows_its_last_lines_and_where_they_are(
    broker: LocalKafka, tmp_path: Path
) -> None:
    doomed = LocalKafka(tmp_path, port=0, libs=LIBS, jvm_flags=("-XX:NoSuchFlag=1", "-Xms9g"))
    with pytest.raises(LocalError) as failure:
        doomed.start()
    assert "Initial heap size set to a larger value" in str(failure.value)
    assert str(tmp_path / "kafka" / "kafka.log") in str(failure.value)
    assert not doomed.running
    doomed.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.bus
def test_the_foreground_broker_ends_cleanly_when_told(
    broker: LocalKafka, tmp_path: Path, number: signal.Signals
) -> None:
    script = (
        "import sys; from pathlib import Path; from cli.local.kafka import run_kafka_foreground; "
        "run_kafka_foreground(Path(sys.argv[1]), port=0, libs=Path(sys.argv[2]))"
    )
    command = [sys.executable, "-u", "-c", script, str(tmp_path), str(LIBS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Kafka answers at 127.0.0.1:"):
                break
        port = int(line.split()[3].rpartition(":")[2])
        assert answers_metadata(port)
        process.send_signal(number)
        assert process.wait(60) == 0
    assert not answers_metadata(port)
    assert "shut down completed" in (tmp_path / "kafka" / "kafka.log").read_text()


def test_a_given_broker_is_used_as_it_is_and_needs_no_java(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with broker_at("kafka.example:9092", tmp_path) as address:
        assert address == "kafka.example:9092"
    assert list(tmp_path.iterdir()) == []


def test_without_java_the_message_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LocalError) as failure, broker_at(None, tmp_path):
        pass
    for word in ("Java 17", "Maven", "apt-get install", "PLIMSOLL_KAFKA__BOOTSTRAP_SERVERS"):
        assert word in str(failure.value)


def test_an_old_java_is_named_with_its_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_program(tmp_path / "java", """echo 'openjdk version "11.0.2" 2019-01-15' >&2""")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LocalError, match=r"Java 11\.0\.2 found .* needs 17 or newer"):
        find_java()


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ('openjdk version "17.0.15" 2025-04-15\nOpenJDK Runtime', (17, "17.0.15")),
        ('java version "1.8.0_402"\nJava(TM) SE', (8, "1.8.0_402")),
        ('openjdk version "25" 2025-09-16', (25, "25")),
        ('openjdk version "21-ea" 2023-09-19', (21, "21-ea")),
        ("nonsense", (0, "of unknown version")),
    ],
)
def test_java_versions_are_read(said: str, version: tuple[int, str]) -> None:
    assert java_version(said) == version


def test_jars_are_fetched_once_for_each_pom(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    into = "for word; do case $word in -DoutputDirectory=*) dir=${word#*=};; esac; done; "
    script = f"{into} /bin/mkdir -p $dir; echo x > $dir/a.jar; echo ran >> {tmp_path}/runs"
    make_program(tmp_path / "mvn", script)
    monkeypatch.setenv("PATH", str(tmp_path))
    pom, libs, said = tmp_path / "pom.xml", tmp_path / "home" / "libs", list[str]()
    pom.write_text("one")
    for _ in range(2):
        fetch_jars(libs, pom=pom, say=said.append)
    assert (libs / "a.jar").exists()
    assert (tmp_path / "runs").read_text() == "ran\n"
    assert len(said) == 1
    pom.write_text("two")
    fetch_jars(libs, pom=pom, say=said.append)
    assert (tmp_path / "runs").read_text() == "ran\nran\n"


def test_a_failed_fetch_shows_mavens_last_lines_and_leaves_no_jars(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    make_program(tmp_path / "mvn", "echo '[ERROR] no such artifact'; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    libs = tmp_path / "home" / "libs"
    with pytest.raises(LocalError, match=r"Maven could not fetch(.|\n)*no such artifact"):
        fetch_jars(libs, say=lambda _: None)
    assert not libs.exists()


def test_the_wanted_port_is_taken_when_free_and_another_when_not() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        taken = holder.getsockname()[1]
        first, second = free_ports(taken, 0)
        assert len({taken, first, second}) == 3
        assert all(15000 <= port < 32000 for port in (first, second))
    assert free_ports(first) == (first,)


def test_a_port_that_is_no_kafka_does_not_answer_metadata() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        assert not answers_metadata(silent.getsockname()[1], timeout_s=0.1)


def test_the_pom_names_no_registry() -> None:
    text = (local.DEPLOY / "pom.xml").read_text()
    addresses = {word for word in text.replace('"', " ").split() if "://" in word}
    assert all("maven.apache.org" in word or "w3.org" in word for word in addresses)
    assert "<repository>" not in text


def make_program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
