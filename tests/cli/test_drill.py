"""What a drill takes for proof. The drills themselves need a Docker engine: `make drill`."""

import time

from cli.drill import COLUMNS, ITSELF, Drill, Work
from libs.common import wire
from libs.common.messages import InferenceResult, InventoryVerdict
from libs.common.ports import Outgoing, Record
from libs.common.topics import (
    INFERENCE_RESULTS,
    INVENTORY_VERDICTS,
    LOAD_FORECASTS,
    SCHEDULER_TICKS,
)
from libs.common.wire import Origin

ORIGIN = Origin("test", "1")


def record(out: Outgoing) -> Record:
    value, now_ms = out.value, time.time_ns() // 1_000_000
    return Record(out.topic, 0, 0, out.key.encode(), value, out.headers, now_ms)


def result(request_id: str) -> Record:
    end = InferenceResult(
        request_id=request_id, model="m", status="ok", due_at_ms=0, ended_at_ms=1, latency_ms=1
    )
    return record(wire.encode(INFERENCE_RESULTS, request_id, end, ORIGIN, request_id, 0))


def verdict(order_id: str) -> Record:
    said = InventoryVerdict(order_id=order_id, verdict="deducted", decided_at_ms=0)
    return record(wire.encode(INVENTORY_VERDICTS, order_id, said, ORIGIN, order_id, 0))


def tick() -> Record:
    return record(Outgoing(SCHEDULER_TICKS.name, "", b""))


def forecast(partition: str) -> Record:
    return record(Outgoing(LOAD_FORECASTS.name, partition, b""))


def test_only_what_was_sent_after_the_fault_proves_anything() -> None:
    work = Work()
    now_s = time.monotonic()
    work.acknowledged |= {"before": now_s - 5, "after": now_s}
    work.take(result("before"))
    assert INFERENCE_RESULTS.name not in work.proven_since(now_s - 1)
    work.take(result("another"))
    assert INFERENCE_RESULTS.name not in work.proven_since(now_s - 1)
    work.take(result("after"))
    work.take(verdict("after"))
    assert work.proven_since(now_s - 1) == {INFERENCE_RESULTS.name, INVENTORY_VERDICTS.name}


def test_forecasts_go_on_once_every_partition_does() -> None:
    work = Work()
    work.take(forecast("0"))
    work.take(forecast("1"))
    time.sleep(0.02)
    fault_s = time.monotonic() - 0.005
    work.take(forecast("0"))
    assert work.proven_since(fault_s) == set()
    work.take(forecast("1"))
    assert work.proven_since(fault_s) == {LOAD_FORECASTS.name}


def test_the_longest_silence_between_ticks_is_kept() -> None:
    work = Work()
    work.take(tick())
    work.tick_gap_s = 0.0
    time.sleep(0.05)
    work.take(tick())
    work.take(tick())
    assert 0.05 <= work.tick_gap_s < 1


def test_what_was_acknowledged_and_never_answered_is_lost() -> None:
    work = Work()
    work.acknowledged |= {"a": 1.0, "b": 2.0}
    work.take(result("a"))
    work.take(result("a"))
    assert work.lost() == ["b"]
    assert work.answers["a"] == 2


def test_a_drill_is_over_when_all_is_proven_and_the_thing_itself_is_back() -> None:
    proven_s = dict.fromkeys(COLUMNS, 1.0)
    assert Drill("kill", {**proven_s, ITSELF: 3.0}, 0.2).back_s == 3.0
    del proven_s[ITSELF]
    assert Drill("kill", proven_s, 0.2).back_s is None
