"""What several rooms' tests need: a real Kafka, once a run, a bus on it, and real stores."""

import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from cli.local.kafka import LocalKafka
from cli.local.processes import LocalError
from cli.local.servers import PostgresServer, RedisServer
from libs.common.adapters import kafka_admin
from libs.common.adapters.kafka import KafkaBus
from libs.common.settings import KafkaSection
from libs.common.telemetry import Health
from libs.common.wire import Origin
from libs.fleet.warm import warm as fleet_warm
from services.predictor.core.warm import warm as predictor_warm
from services.scheduler.core.warm import warm as scheduler_warm

ROOT = Path(__file__).parents[1]
JARS = ROOT / ".plimsoll" / "kafka" / "libs"


def pytest_collection_finish(session: pytest.Session) -> None:
    """Compile the kernels before the first test that needs them, outside its time limit."""
    if session.config.option.collectonly:
        return
    rooms = {item.path.parent.name for item in session.items}
    if rooms & {"fleet", "executor", "scheduler", "integration", "bench"}:
        fleet_warm()
    if rooms & {"scheduler", "integration", "bench"}:
        scheduler_warm()
    if rooms & {"predictor", "integration", "bench"}:
        predictor_warm()


def absent(reason: str) -> None:
    """Skip a test whose needs this machine lacks, visibly; where CI is set, fail it instead."""
    if os.environ.get("CI"):
        pytest.fail(f"absent, though CI is set: {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real broker: the one in the environment, or a local one for this run."""
    given = os.environ.get("PLIMSOLL_KAFKA__BOOTSTRAP_SERVERS")
    if given:
        yield given
        return
    broker = LocalKafka(tmp_path_factory.mktemp("kafka"), port=0, libs=JARS)
    try:
        broker.start()
    except LocalError as error:
        absent(str(error))
    try:
        yield broker.bootstrap_servers
    finally:
        broker.stop()


@pytest.fixture
def kafka_section(kafka: str, request: pytest.FixtureRequest) -> KafkaSection:
    """Settings by which each test has topics and groups of its own."""
    name = "".join(c if c.isalnum() else "-" for c in request.node.name)[:80].lower()
    return KafkaSection(bootstrap_servers=kafka, topic_prefix=f"{name}-{os.getpid()}.")


Connect = Callable[[str], AbstractAsyncContextManager[KafkaBus]]


@pytest.fixture
def connect(kafka_section: KafkaSection) -> Connect:
    """Connect an instance, by name, to the test's own topics."""

    @asynccontextmanager
    async def _connect(instance: str) -> AsyncIterator[KafkaBus]:
        await kafka_admin.apply_topics(kafka_section)
        async with KafkaBus.connect(kafka_section, Origin("test", instance), Health(20.0)) as bus:
            yield bus

    return _connect


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """An empty Redis of the test's own: it may flush and stop it."""
    server = RedisServer(tmp_path)
    try:
        server.start()
    except LocalError as error:
        absent(str(error))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL for this run; who stops it starts it again."""
    # Not below pytest's own folder, which only we may enter: PostgreSQL will not run as root.
    with tempfile.TemporaryDirectory(prefix="plimsoll-postgres-") as folder:
        server = PostgresServer(Path(folder))
        try:
            server.make()
            server.start()
        except LocalError as error:
            absent(str(error))
        try:
            yield server
        finally:
            server.stop()
