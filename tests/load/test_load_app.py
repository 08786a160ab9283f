import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from libs.common.adapters.memory import ManualClock, MemoryBus
from libs.common.errors import SettingError
from libs.common.messages import InferenceRequest
from libs.common.ports import Outgoing
from libs.common.topics import INFERENCE_REQUESTS
from libs.common.wire import Origin, decode_json
from services.load.app import BATCHES_MAX, ROUND_MS, Sender, plan_of, send_without_end
from services.load.core.arrivals import Plan
from services.load.settings import LoadSection

START_MS = 1_000_000
ORIGIN = Origin("load", "1")


def plan_at(*at_ms: float) -> Plan:
    count = len(at_ms)
    return Plan(
        ("chat", "embed"),
        np.arange(count) % 2,
        np.array(at_ms),
        np.full(count, 7),
        np.full(count, 9),
    )


def sent(bus: MemoryBus) -> list[tuple[int, InferenceRequest]]:
    return [
        (record.timestamp_ms, decode_json(record, InferenceRequest))
        for record in bus.records(INFERENCE_REQUESTS)
    ]


async def passes(clock: ManualClock, ms: int) -> None:
    await clock.advance(0)  # a new task begins to sleep only once it has run
    await clock.advance(ms)


class AwayBus(MemoryBus):
    """A bus whose broker does not answer until `back` is set."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.back = asyncio.Event()
        self.under_way = 0

    async def publish(self, messages: Sequence[Outgoing]) -> None:
        self.under_way += 1
        await self.back.wait()
        self.under_way -= 1
        await super().publish(messages)


async def test_each_request_goes_out_at_its_due_time_with_what_it_carries() -> None:
    clock = ManualClock(START_MS)
    bus = MemoryBus(clock)
    sender = Sender(plan_at(0.0, 40.0, 1500.0), "run", bus, clock, ORIGIN)
    sending = asyncio.create_task(sender.send())
    await passes(clock, 3_000)
    await sending
    assert [(at, r.due_at_ms) for at, r in sent(bus)] == [
        (START_MS + ms, START_MS + ms) for ms in (0, 40, 1500)
    ]
    first = sent(bus)[0][1]
    assert (first.request_id, first.model) == ("run-0", "chat")
    assert (first.prompt_tokens, first.output_tokens) == (7, 9)
    assert sender.acknowledged == {"chat": 2, "embed": 1}


async def test_no_request_waits_for_the_answer_to_another() -> None:
    clock = ManualClock(START_MS)
    bus = AwayBus(clock)
    sending = asyncio.create_task(Sender(plan_at(0.0, 50.0), "r", bus, clock, ORIGIN).send())
    await passes(clock, 100)
    assert bus.under_way == 2
    bus.back.set()
    await passes(clock, 100)
    await sending


async def test_an_outage_is_outlasted_within_bounds_and_nothing_is_forgotten() -> None:
    clock = ManualClock(START_MS)
    bus = AwayBus(clock)
    due = np.arange(0.0, 2_000.0, 10.0)
    sender = Sender(plan_at(*due), "r", bus, clock, ORIGIN)
    sending = asyncio.create_task(sender.send())
    await passes(clock, 5_000)
    assert bus.under_way == BATCHES_MAX
    assert not sender.acknowledged
    bus.back.set()
    await passes(clock, 5_000)
    await sending
    requests = [request for _, request in sent(bus)]
    assert sorted(r.due_at_ms - START_MS for r in requests if r.due_at_ms) == due.tolist()
    assert len({r.request_id for r in requests}) == len(due)
    assert sender.acknowledged.total() == len(due)


def test_the_same_settings_make_the_same_plan() -> None:
    one, two = (plan_of(LoadSection(duration_s=20.0, seed=4)) for _ in range(2))
    np.testing.assert_array_equal(one.at_ms, two.at_ms)
    assert one.models == ("chat", "vision", "embed", "rerank")


def test_a_trace_that_cannot_be_read_names_its_setting() -> None:
    with pytest.raises(SettingError, match=r"PLIMSOLL_LOAD__TRACE.*nowhere"):
        plan_of(LoadSection(trace="/nowhere.csv"))


def test_a_trace_replaces_the_arrivals_of_chat_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.0,374,44\n")
    plan = plan_of(LoadSection(trace=str(path), duration_s=20.0))
    chat = plan.model == plan.models.index("chat")
    assert plan.prompt_tokens[chat].tolist() == [374]
    assert set(plan.models) == {"chat", "vision", "embed", "rerank"}


async def test_a_load_without_end_goes_on_after_its_round_with_other_arrivals() -> None:
    clock = ManualClock(START_MS)
    bus = MemoryBus(clock)
    section = LoadSection(duration_s=0, rates_rps={"chat": 0.2})
    sending = asyncio.create_task(send_without_end(section, "run", bus, clock, ORIGIN))
    for _ in range(5):
        await passes(clock, ROUND_MS // 2)
    sending.cancel()
    rounds: dict[str, list[int]] = {}
    for _, request in sent(bus):
        assert request.due_at_ms is not None
        rounds.setdefault(request.request_id.split("-")[1], []).append(request.due_at_ms - START_MS)
    assert list(rounds) == ["0", "1", "2"]
    for number, due_ms in enumerate(rounds.values()):
        assert all(number * ROUND_MS <= at < (number + 1) * ROUND_MS for at in due_ms)
    assert [at - ROUND_MS for at in rounds["1"]] != rounds["0"]


async def test_after_a_long_sleep_the_load_begins_anew() -> None:
    clock = ManualClock(START_MS)
    bus = AwayBus(clock)
    section = LoadSection(duration_s=0, rates_rps={"chat": 0.2})
    sending = asyncio.create_task(send_without_end(section, "run", bus, clock, ORIGIN))
    await passes(clock, 10 * ROUND_MS)
    bus.back.set()
    await passes(clock, 0)
    await passes(clock, ROUND_MS)
    sending.cancel()
    second = [r for _, r in sent(bus) if r.request_id.startswith("run-1-")]
    assert second
    assert all(r.due_at_ms and r.due_at_ms >= START_MS + 10 * ROUND_MS for r in second)
