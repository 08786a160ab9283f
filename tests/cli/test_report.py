import json

import numpy as np
import pytest

from cli.recording import Foreseen, Recording
from cli.report import Window, loop_buckets, loop_latency_ms, matured, report_of
from cli.stack import Progress, progress_of
from cli.summary import progress_line, summary
from libs.common import plimsoll_pb2 as pb
from libs.common import series, topics
from libs.common.messages import Ack, InferenceResult, LeaderClaim, SetBatch
from tests.cli.records import CHAT, Log, Source, counter

START_MS = 100_000
WINDOW = Window(START_MS, 10.0, None, 1, 0)


def end(
    number: int, status: str = "ok", latency_ms: float = 50.0, run: str = "r"
) -> InferenceResult:
    return InferenceResult.model_validate(
        {
            "request_id": f"{run}-{number}",
            "model": "chat",
            "status": status,
            "due_at_ms": START_MS + 100 * number,
            "ended_at_ms": START_MS + 100 * number + 50,
            "latency_ms": latency_ms,
        }
    )


def recorded(*ends: InferenceResult) -> Recording:
    log, recording = Log(), Recording(run="r")
    recording.take(log.record(topics.REGISTRY_MODELS, CHAT))
    for one in ends:
        recording.take(log.record(topics.INFERENCE_RESULTS, one))
    return recording


def report(recording: Recording, sent: int) -> dict[str, object]:
    out = report_of(recording, WINDOW, {"chat": sent}, {}, {}, {})
    json.dumps(out, allow_nan=False)
    return out


def test_every_sent_request_has_exactly_one_end_or_is_lost() -> None:
    ends = [end(0), end(1), end(2, "late", 500.0), end(3, "rejected"), end(1, "late", 900.0)]
    out = report(recorded(*ends, end(7, run="another")), sent=6)
    assert out["requests"] == {"in": 6, "ok": 2, "rejected": 1, "late": 1, "lost": 2}
    assert out["repeated_ends"] == 1
    assert out["slo_attainment"] == pytest.approx(2 / 6, abs=1e-5)


def test_latency_is_over_all_arrivals_and_what_never_ended_took_for_ever() -> None:
    out = report(recorded(*[end(i, latency_ms=10.0 * i) for i in range(1, 100)]), sent=99)
    assert out["latency_ms"] == {"p50": 500.0, "p99": 990.0}
    out = report(recorded(*[end(i, latency_ms=10.0 * i) for i in range(1, 100)]), sent=105)
    assert out["latency_ms"] == {"p50": 530.0, "p99": None}


def test_gpu_time_is_what_counters_gained_within_the_window() -> None:
    log = Log()
    recording = recorded()
    names = (series.GPU_SERVING_S, series.GPU_TRAINING_S, series.GPU_BUSY_SERVING_S)
    source = Source(log, "executor/n", [counter(name, device="n/0", node="n") for name in names])
    recording.take(source.layout())
    for second in range(-5, 20):
        at_ms = START_MS + 1000 * second
        grown = second + 5
        recording.take(source.tick(at_ms, 0.5 * grown, 0.25 * grown, 0.4 * grown))
        recording.mark(at_ms)
    out = report(recording, sent=0)
    assert out["gpu_hours"] == {
        "serving": pytest.approx(5 / 3600, abs=1e-5),
        "training": pytest.approx(2.5 / 3600, abs=1e-5),
        "total": pytest.approx(10 / 3600, abs=1e-5),
    }
    assert out["gpu_busy_share"] == pytest.approx(0.4)
    assert out["gpu_busy_split"] == {"serving": 0.4, "training": 0.0, "loading": 0.0, "idle": 0.6}


def test_commands_are_counted_by_id_and_so_are_their_acknowledgements() -> None:
    log, recording = Log(), recorded()
    for name in ("0-1-0", "0-2-0", "0-2-0"):
        batch = SetBatch(
            id=name, replica="r", model="chat", batch_size=1, wait_ms=0, serving_share=1
        )
        recording.take(log.record(topics.COMMANDS_BATCH, batch))
    for name, status in (("0-1-0", "accepted"), ("0-1-0", "done"), ("9-9-9", "accepted")):
        ack = Ack.model_validate({"command_id": name, "status": status, "at_ms": 1})
        recording.take(log.record(topics.COMMANDS_ACKS, ack))
    out = report(recording, sent=0)
    assert out["commands"] == {"scaling": 0, "batch": 2, "placement": 0, "acknowledged": 1}


def test_the_first_leader_is_no_change_of_leaders() -> None:
    log, recording = Log(), recorded()
    for at_ms in (START_MS - 5000, START_MS + 100):
        claim = LeaderClaim(instance="a", at_ms=at_ms)
        recording.take(log.record(topics.SCHEDULER_LEADER, claim))
    assert report(recording, sent=0)["leader_changes"] == 1


def test_forecasts_mature_when_their_horizon_is_over_within_the_window() -> None:
    due = {"chat": START_MS + np.arange(0, 10_000, 100)}  # 10 a second
    forecasts = [
        Foreseen("chat", START_MS - 1, 1_000, 99.0),  # before the window
        Foreseen("chat", START_MS + 1_000, 5_000, 12.0),
        Foreseen("chat", START_MS + 6_000, 5_000, 99.0),  # ends after it
        Foreseen("other", START_MS + 1_000, 1_000, 99.0),
    ]
    assert matured(forecasts, due, WINDOW) == [(12.0, 10.0)]


def test_one_forecast_a_second_is_kept_at_the_lead_time() -> None:
    log, recording = Log(), recorded()
    for at_ms in range(0, 3_000, 100):
        forecast = pb.LoadForecast(
            model="chat", at_ms=5_000 + at_ms, horizon_ms=[200, 8_000], mean_rps=[1.0, 2.0]
        )
        recording.take(log.record(topics.LOAD_FORECASTS, pb.LoadForecasts(forecasts=[forecast])))
    assert recording.forecasts == [
        Foreseen("chat", at_ms, 8_000, 2.0) for at_ms in (5_000, 6_000, 7_000)
    ]


def test_a_run_without_anything_known_is_null_and_never_not_a_number() -> None:
    out = report(Recording(run="r"), sent=0)
    assert out["forecast_wape"] is None
    assert out["slo_attainment"] is None
    assert out["loop_latency_ms"] == {"p50": None, "p99": None}
    assert summary(out).row_count > 5


def test_loop_latency_is_what_the_histogram_gained() -> None:
    page = "\n".join(
        [
            "# TYPE plimsoll_loop_latency_seconds histogram",
            *[
                f'plimsoll_loop_latency_seconds_bucket{{le="{edge}"}} {count}'
                for edge, count in (("0.1", 10), ("0.2", 110), ("+Inf", 110))
            ],
            "",
        ]
    )
    after = loop_buckets(page)
    assert loop_latency_ms({0.1: 10.0, 0.2: 10.0, float("inf"): 10.0}, after) == {
        "p50": 150.0,
        "p99": 199.0,
    }
    # A restarted executor counts from zero again.
    assert loop_latency_ms({0.1: 500.0, 0.2: 900.0, float("inf"): 900.0}, after)["p50"] == 145.0


def test_the_loads_own_lines_say_how_far_it_is() -> None:
    lines = [
        "warming up",
        '{"event": "start", "start_ms": 5}',
        '{"event": "progress", "acknowledged": {"chat": 2}, "done": false}',
        '{"event": "progress", "acknowledged": {"chat": 3, "embed": 1}, "done": true}',
        '{"event": "prog',
    ]
    progress = progress_of(lines)
    assert (progress.start_ms, progress.total, progress.done) == (5, 4, True)
    assert progress_of([]) == Progress()


def test_a_line_of_progress_names_sends_and_ends() -> None:
    line = progress_line(recorded(end(0), end(1, "late")), Progress(5, {"chat": 3}), "driving")
    assert line.startswith("driving: in 3, ok 1, late 1, rejected 0 | chat 0")
