"""The way from the command line to Kafka: the only file here that knows the adapter."""

import logging
import sys
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import structlog

from libs.common import settings
from libs.common.adapters import kafka_admin
from libs.common.adapters.kafka import KafkaBus
from libs.common.ports import Bus
from libs.common.settings import KafkaSection, Settings
from libs.common.telemetry import Health
from libs.common.wire import Origin

# Services wait for a broker for minutes; a person at a terminal would rather be told.
PATIENCE_S = 30.0


def kafka_section(servers: str | None = None) -> KafkaSection:
    """Return the settings of the bus, at `servers` where given.

    Raises:
        SettingError: a variable is wrong.
    """
    section = settings.load(Settings).kafka
    if "start_timeout_s" not in section.model_fields_set:
        section = section.model_copy(update={"start_timeout_s": PATIENCE_S})
    return section if servers is None else section.model_copy(update={"bootstrap_servers": servers})


def given_servers() -> str | None:
    """Return the broker that the environment names; None where it names none."""
    section = kafka_section()
    return section.bootstrap_servers if "bootstrap_servers" in section.model_fields_set else None


@asynccontextmanager
async def connect(section: KafkaSection, verb: str) -> AsyncIterator[Bus]:
    """Wait for the broker and its topics, and yield a bus. Raises SettingError."""
    _say_plainly()
    async with KafkaBus.connect(section, Origin("cli", verb), Health(60.0)) as bus:
        yield bus


async def apply_topics(section: KafkaSection) -> list[str]:
    """Create what is missing of the topic table; a line for each topic. Raises SettingError."""
    _say_plainly()
    return await kafka_admin.apply_topics(section)


def _say_plainly() -> None:
    """Show what the adapter waits for and warns of as lines for people."""
    # A broker that is away makes the client library log each attempt, over the live view.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[_plain],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # as it is when a line comes
    )


def _plain(_logger: Any, level: str, event: MutableMapping[str, Any]) -> str:
    said = event.pop("event")
    return f"{level}: {said}" + "".join(f", {name} {value}" for name, value in event.items())
