"""Dynamo's planner by hand, from ai-dynamo/dynamo components/src/dynamo/planner/core.

load_scaling.py (_agg_easy_decision, _agg_prefill_scaling, _agg_decode_scaling),
throughput_scaling.py (_throughput_agg), perf_model/agg.py, load/predictors.py and
config/planner_config.py.
"""

import numpy as np
import pytest

from bench.full import Full
from bench.policies.autoscaler import Bounds, Case, Engine, Sample
from bench.policies.dynamo import Dynamo, DynamoSetting
from bench.policies.dynamo_load import Held, LoadLoop
from bench.policies.local_trend import LocalTrend
from libs.common.messages import BatchLaw, ModelSpec, Objective
from tests.bench.cases import SPEC, a_case

S = 1000.0
SLA = DynamoSetting("sla")
# s(b) = 10 + 10 b; two batches of 10 last 220 ms. Up to 90.9 requests/s.
BATCH = Case(
    ModelSpec(
        name="b",
        kind="batch",
        objective=Objective(latency_ms=220),
        weights_bytes=10**9,
        request_bytes=1000,
        batch_max=100,
        law={"gpu": BatchLaw(alpha_ms=10, beta_ms=10)},
    ),
    Full(rate_rps=1000 / 11, batch=10, alpha_ms=10.0, beta_ms=10.0, continuous=False),
    Bounds(1, 50),
)


def a_planner(setting: DynamoSetting = DynamoSetting(), case: Case | None = None) -> Dynamo:  # noqa: B008
    return Dynamo(case or a_case(1, 50), setting)


def look(dynamo: Dynamo, at_s: float, engines: list[Engine], arrivals: int = 0) -> int:
    """Show a sample 0.1 s before a tick; return what is wanted then, if all there serve."""
    ready = len(engines)
    dynamo.see(Sample(at_s * S - 100, 0, 0, arrivals, ready, engines=tuple(engines)))
    return dynamo.desired(at_s * S, ready, ready)


def a_low_floor(setting: DynamoSetting, case: Case | None = None) -> Dynamo:
    """A planner whose slow loop has found at 180 s that one replica is enough."""
    dynamo = a_planner(setting, case)
    assert look(dynamo, 180, [QUICK]) == 1
    return dynamo


@pytest.mark.parametrize(
    ("target", "shares", "step"),
    [
        ("throughput", (0.5, 0.5), -1),
        ("throughput", (0.5, 0.6), 0),  # not all below 0.6
        ("throughput", (0.0, 1.0), 0),
        ("throughput", (0.0, 1.01), 1),  # any is enough
        ("latency", (0.05, 0.05), -1),
        ("latency", (0.05, 0.1), 0),
        ("latency", (0.05, 0.41), 1),
    ],
)
def test_as_it_comes_the_fill_of_the_caches_decides(
    target: str, shares: tuple[float, float], step: int
) -> None:
    engines = [Engine(1, 0, share, 0) for share in shares]
    setting = DynamoSetting("latency") if target == "latency" else DynamoSetting()
    assert look(a_planner(setting), 5, engines) == 2 + step


def test_prompts_that_wait_count_as_fill() -> None:
    # The cache has 100,000 tokens.
    assert look(a_planner(), 5, [Engine(1, 9, 0.5, 50_001), Engine(0, 0, 0.0, 0)]) == 3
    assert look(a_planner(), 5, [Engine(1, 9, 0.5, 50_000), Engine(0, 0, 0.0, 0)]) == 2


def test_the_last_replica_stays() -> None:
    assert look(a_planner(), 5, [Engine(0, 0, 0.0, 0)]) == 1


def test_nothing_moves_while_a_replica_loads() -> None:
    dynamo = a_planner()
    assert look(dynamo, 5, [Engine(1, 0, 1.5, 0)]) == 2
    assert dynamo.desired(10 * S, 2, 1) == 2
    assert look(dynamo, 65, [Engine(1, 0, 1.5, 0), Engine(0, 0, 0.0, 0)]) == 3


def test_nothing_moves_while_engines_and_replicas_differ() -> None:
    dynamo = a_planner()
    look(dynamo, 5, [Engine(0, 0, 0.0, 0)] * 3)
    assert dynamo.desired(10 * S, 2, 2) == 2


def test_a_step_is_answered_by_one_replica_a_load_time() -> None:
    dynamo = a_planner()
    replicas, ready_ms, wanted = 1, 0.0, []
    for at_s in range(5, 200, 5):  # a load takes 60 s
        ready = replicas if at_s * S >= ready_ms else replicas - 1
        dynamo.see(Sample(at_s * S - 100, 0, 0, 0, ready, engines=(Engine(9, 9, 1.0, 9),) * ready))
        now = dynamo.desired(at_s * S, replicas, ready)
        if now > replicas:
            replicas, ready_ms = now, at_s * S + 60 * S
            wanted.append((at_s, now))
    assert wanted == [(5, 2), (65, 3), (125, 4), (185, 5)]


def a_loop(share: float = 1.0, sensitivity: float = 0.8) -> LoadLoop:
    """Prompts of 100 tokens, of which an iteration computes 20 in the mean."""
    loop = LoadLoop(a_case(1, 50), share, sensitivity)
    loop.see(Sample(S, 0, 0, 0, 1, ended=10, prompt_tokens=1000, iterations=50))
    return loop


def test_the_first_token_comes_when_the_prompts_ahead_are_done_chunk_by_chunk() -> None:
    # Base 10, 10 sequences x 0.1, 10,000 tokens x 0.0001: an iteration decodes in 12 ms. It may
    # last 18: 60 tokens of prompts at 0.1. 200 and its own 100 take 5 of them, and 30 ms more.
    assert a_loop().first_ms(Held(0.1, 10, 200)) == pytest.approx(5 * 12 + 30)
    assert a_loop().token_ms(Held(0.1, 10, 200)) == pytest.approx(12 + 20 * 0.1)


def test_of_a_batch_model_the_latency_of_one_more_counts() -> None:
    loop = LoadLoop(BATCH, 1.0, 0.8)
    # 25 and itself: three batches, 3 x 10 + 26 x 10.
    assert loop.first_ms(Held(0.5, 10, 15)) == pytest.approx(290)


# With q tokens ahead, chunks of 90: ceil(q / 90) x 10 + 0.1 q ms, as no request has ended and the
# mean prompt is not known. 4,800 tokens take 1,020 ms.
SLOW, QUICK = Engine(0, 9, 0.0, 4800), Engine(0, 0, 0.0, 0)


def test_by_times_one_more_only_if_all_are_too_slow() -> None:
    assert look(a_planner(SLA), 5, [SLOW, SLOW]) == 3
    assert look(a_planner(SLA), 5, [SLOW, QUICK]) == 2


def test_by_times_one_fewer_only_if_the_rest_would_be_in_time() -> None:
    assert look(a_low_floor(SLA), 185, [QUICK, QUICK]) == 1
    # Twice 1,890 tokens take 42 x 10 + 378 = 798 ms: of 1000, 0.8 may be used.
    assert look(a_low_floor(SLA), 185, [Engine(0, 9, 0.0, 1890), QUICK]) == 1
    assert look(a_low_floor(SLA), 185, [Engine(0, 9, 0.0, 1900), QUICK]) == 2
    half = SLA._replace(sensitivity=0.5)
    assert look(a_low_floor(half), 185, [Engine(0, 9, 0.0, 1760), QUICK]) == 2


def test_by_times_one_fewer_only_if_the_caches_have_room() -> None:
    # Tokens: of 20 ms, 0.8 may be used, and at twice 0.29 it is 10 + 5.8.
    assert look(a_low_floor(SLA), 185, [Engine(0, 0, 0.29, 0), QUICK]) == 1
    assert look(a_low_floor(SLA), 185, [Engine(0, 0, 0.31, 0), QUICK]) == 2
    wide = DynamoSetting("sla", sensitivity=5.0)
    assert look(a_low_floor(wide), 185, [Engine(0, 0, 0.49, 0), QUICK]) == 1
    assert look(a_low_floor(wide), 185, [Engine(0, 0, 0.50, 0), QUICK]) == 2


def test_a_batch_model_gives_one_up_only_where_the_rest_carry_its_rate() -> None:
    idle = [Engine(0, 0)] * 2
    # In 5 s 363 requests: 72.6 a second are 0.799 of one replica.
    assert look(a_low_floor(SLA, BATCH), 185, idle, arrivals=363) == 1
    assert look(a_low_floor(SLA, BATCH), 185, idle, arrivals=364) == 2


def test_the_floor_is_the_rate_over_what_one_engine_carries() -> None:
    dynamo = a_planner(SLA)
    busy = [Engine(1, 0, 0.5, 0)] * 3
    assert look(dynamo, 175, busy, arrivals=7000) == 3
    # 7,196 in 179.9 s: 40 a second, 10 each.
    assert look(dynamo, 180, busy, arrivals=7196) == 4
    assert look(dynamo, 185, [QUICK] * 4, arrivals=7200) == 4


def test_until_the_first_180_s_what_is_found_is_the_floor() -> None:
    dynamo = a_planner(SLA)
    assert look(dynamo, 5, [QUICK] * 3) == 3
    assert look(dynamo, 180, [QUICK] * 3) == 2


def test_a_floor_far_above_comes_eight_a_tick() -> None:
    dynamo = a_planner(SLA)
    assert look(dynamo, 180, [QUICK], arrivals=36_000) == 9
    assert look(dynamo, 185, [QUICK] * 9, arrivals=36_000) == 17


def test_as_it_comes_no_rate_is_foreseen() -> None:
    assert look(a_planner(), 180, [QUICK] * 2, arrivals=36_000) == 1


def test_without_the_fast_loop_the_slow_one_decides_each_180_s() -> None:
    dynamo = a_planner(SLA._replace(load_loop=False))
    assert look(dynamo, 175, [SLOW] * 2) == 2
    assert look(dynamo, 180, [SLOW] * 2, arrivals=1799) == 1
    assert look(dynamo, 185, [SLOW] * 2, arrivals=1799) == 2


def test_a_smaller_share_of_the_objective_takes_more_engines() -> None:
    # Of 16 ms a token 10 are the base: (1 - 10 / 16) / beta; what is full at 20 has 10 a second.
    full = Full(rate_rps=10.0, batch=10, alpha_ms=1000.0, beta_ms=50.0, continuous=True)
    case = Case(SPEC, full, Bounds(1, 50))
    assert LoadLoop(case, 0.8, 0.8).engine_rps() == pytest.approx(7.5)
    assert LoadLoop(case, 1.0, 0.8).engine_rps() == pytest.approx(10.0)
    # Half of 220 ms: two batches of 4.
    assert LoadLoop(BATCH, 0.5, 0.8).engine_rps() == pytest.approx(1000 * 4 / 50)


def filtered(values: list[float]) -> float:
    """The same filter, by the joint normal of all that is seen and of what comes next."""
    n = len(values)
    # Level at k from the first: known with variance 1000, as the trend; then it wanders.
    step, noise = np.array([[1.0, 1.0], [0.0, 1.0]]), np.diag([1.0, 0.1])
    powers = [np.linalg.matrix_power(step, k) for k in range(n + 1)]
    mean = np.array([values[0], 0.0])
    levels = np.array([(powers[k] @ mean)[0] for k in range(n + 1)])
    cov = np.zeros((n + 1, n + 1))
    for i in range(n + 1):
        for j in range(n + 1):
            joint = powers[i] @ (1000 * np.eye(2)) @ powers[j].T
            for k in range(1, min(i, j) + 1):
                joint = joint + powers[i - k] @ noise @ powers[j - k].T
            cov[i, j] = joint[0, 0]
    seen = cov[1:n, 1:n] + 10 * np.eye(n - 1)
    gap = np.array(values[1:]) - levels[1:n]
    return float(levels[n] + cov[n, 1:n] @ np.linalg.solve(seen, gap))


def test_the_filter_is_the_best_guess_from_all_that_was_seen() -> None:
    values = [40.0, 44.0, 41.0, 50.0, 57.0, 55.0]
    trend = LocalTrend()
    for value in [0.0, 0.0, *values]:  # the idle beginning is left out
        trend.add(value)
    assert trend.count == 6
    assert trend.next() == pytest.approx(filtered(values))


def test_with_few_intervals_seen_the_last_value_is_foreseen() -> None:
    past = np.repeat([20.0, 30.0, 40.0], 3)  # a mean a minute, of which three make an interval
    short = Dynamo(a_case(1, 50, past), SLA)
    assert look(short, 180, [QUICK] * 5, arrivals=8995) == 5  # 50 a second
    long = Dynamo(a_case(1, 50, np.repeat([10.0, 20.0, 30.0, 40.0], 3)), SLA)
    assert look(long, 180, [QUICK] * 5, arrivals=8995) == 6  # and 10 more each interval
