from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common import plimsoll_pb2 as pb
from libs.common import series, wire
from libs.common.errors import ContractError
from services.predictor.core import partition, registry
from services.predictor.core.partition import Outcome, Partition
from services.predictor.core.registry import NOTHING_DECLARED, Registry
from services.predictor.core.source import Policy, Sight

POLICY = Policy()
NOW_MS = 1_800_000_500_000
EMPTY = Partition({})


def fold(
    state: Partition, sight: Sight, known: Registry = NOTHING_DECLARED, policy: Policy = POLICY
) -> tuple[Partition, Outcome]:
    return partition.step(state, sight, known, policy, NOW_MS)


def only(state: Partition) -> pb.LoadForecast:
    (forecast,) = partition.forecasts(state, 0, POLICY).forecasts
    return forecast


def judgement(state: Partition) -> tuple[float, float]:
    account = partition.accounts(state, POLICY, {"chat"})["chat"]
    return account.error_rps, account.actual_rps


def feed(source, state: Partition, ticks: int, each: float, known: Registry = NOTHING_DECLARED):  # type: ignore[no-untyped-def]
    for _ in range(ticks):
        source.add(series.ARRIVALS, "chat", each)
        state, outcome = fold(state, source.sight(), known)
        assert not outcome.skipped
    return state


def test_a_forecast_says_what_the_samples_say(router: Callable, declared: Registry) -> None:
    source = router("chat")
    state = feed(source, EMPTY, 300, 4, declared)
    source.set(series.QUEUE, "chat", 7)
    source.set(series.IN_FLIGHT, "chat", 3)
    source.add(series.ENDS_OK, "chat", 10)
    source.add(series.PROMPT_TOKENS, "chat", 2500)
    source.add(series.LATENCY_RATIO, "chat", 10, bucket=16)
    state = feed(source, state, 1, 4, declared)
    forecast = only(state)
    assert forecast.arrival_rate_rps == pytest.approx(40, rel=0.01)
    assert list(forecast.horizon_ms) == [200, 1000, 5000, 15_000]
    assert list(forecast.mean_rps) == pytest.approx([40] * 4, rel=0.05)
    assert len(forecast.quantile_rps) == len(forecast.peak_10s_quantile_rps) == 24
    assert (forecast.queue_requests, forecast.in_flight_requests) == (7, 3)
    assert forecast.prompt_tokens_mean == 250
    assert 0.42 < forecast.slo_ratio_p98 <= 0.5
    assert forecast.lead_time_ms["L4"] == 10_000 + POLICY.decision_ms
    assert (forecast.law["L4"].alpha_ms, forecast.law["L4"].batches) == (pytest.approx(20), 0)
    assert forecast.newest_sample_ms == source.at_ms
    assert forecast.next_by_ms == source.at_ms + 300


def test_what_is_not_yet_known_is_absent_not_zero(router: Callable) -> None:
    source = router("chat")
    state, _ = fold(EMPTY, source.sight())
    forecast = only(state)
    for field in ("arrival_rate_rps", "dispersion", "slo_ratio_p98", "prompt_tokens_mean"):
        assert not forecast.HasField(field), field
    assert not forecast.horizon_ms
    assert not forecast.law
    assert forecast.HasField("queue_requests"), "a level is known at once"
    later = only(feed(source, state, 1, 5))
    assert later.arrival_rate_rps == pytest.approx(50)
    assert list(later.horizon_ms) == [200, 1000, 5000], "no lead time is declared"


def test_a_repeated_or_late_tick_changes_nothing(router: Callable) -> None:
    source = router("chat")
    state = feed(source, EMPTY, 30, 5)
    source.add(series.ARRIVALS, "chat", 500)
    same = source.sight(after_ms=0)
    assert fold(state, same) == (state, Outcome("repeated"))
    assert fold(state, same._replace(at_ms=same.at_ms - 1)) == (state, Outcome("late"))


def test_replaying_a_log_from_any_point_ends_in_the_same_forecast(router: Callable) -> None:
    source = router("chat")
    sights = []
    for count in np.random.default_rng(1).poisson(5, 60):
        source.add(series.ARRIVALS, "chat", count)
        sights.append(source.sight())
    once = EMPTY
    for sight in sights:
        once, _ = fold(once, sight)
    twice = EMPTY
    for sight in [*sights[:40], *sights[10:40], *sights[20:]]:
        twice, _ = fold(twice, sight)
    assert partition.forecasts(twice, 0, POLICY) == partition.forecasts(once, 0, POLICY)


def test_accounts_are_made_of_the_models_asked_for_alone(router: Callable) -> None:
    source = router("chat", "draw")
    state, _ = fold(EMPTY, source.sight())
    assert partition.accounts(state, POLICY, {"draw", "never seen"}).keys() == {"draw"}
    assert not partition.accounts(state, POLICY, ())


def test_a_copy_of_a_state_goes_its_own_way(router: Callable, declared: Registry) -> None:
    source = router("chat")
    state = feed(source, EMPTY, 237, 5, declared)
    twin = partition.copied(state)
    before, judged = only(state), partition.accounts(state, POLICY, {"chat"})
    source.add(series.ARRIVALS, "chat", 50)
    sight = source.sight(after_ms=3000)
    state, _ = fold(state, sight, declared)
    assert (only(twin), partition.accounts(twin, POLICY, {"chat"})) == (before, judged), "untouched"
    twin, _ = fold(twin, sight, declared)
    assert only(twin) == only(state) != before


def test_a_refused_tick_changes_nothing(router: Callable) -> None:
    source = router("audio", "chat")
    state = feed(source, EMPTY, 37, 5)
    before = partition.copied(state)
    source.add(series.ARRIVALS, "audio", 5)
    source.set(series.ENDS_OK, "chat", -1)
    with pytest.raises(ContractError, match="ends_ok_total of chat is -1"):
        fold(state, source.sight())
    assert partition.forecasts(state, 0, POLICY) == partition.forecasts(before, 0, POLICY)
    assert (state.sources["router/0"].values == before.sources["router/0"].values).all()


def test_models_of_one_source_do_not_touch_each_other(router: Callable) -> None:
    rng = np.random.default_rng(3)
    names = [f"m{at}" for at in range(5)]
    together, alone = router(*names), [router(name) for name in names]
    state, apart = EMPTY, [EMPTY] * len(names)
    for _ in range(130):
        for at, name in enumerate(names):
            count = float(rng.poisson(3 * at))
            together.add(series.ARRIVALS, name, count)
            alone[at].add(series.ARRIVALS, name, count)
            apart[at], _ = fold(apart[at], alone[at].sight())
        state, _ = fold(state, together.sight())
    assert list(partition.forecasts(state, 0, POLICY).forecasts) == [only(one) for one in apart]


def test_a_counter_that_falls_was_started_again(router: Callable) -> None:
    source = router("chat")
    state = feed(source, EMPTY, 100, 5)
    source.set(series.ARRIVALS, "chat", 0)
    forecast = only(feed(source, state, 1, 5))
    assert forecast.arrival_rate_rps == pytest.approx(50, rel=0.05)


def test_arrivals_of_a_gap_are_spread_over_it(router: Callable) -> None:
    source = router("chat")
    state = feed(source, EMPTY, 100, 5)
    source.add(series.ARRIVALS, "chat", 5 * 73)
    state, _ = fold(state, source.sight(after_ms=7300))
    assert only(state).arrival_rate_rps == pytest.approx(50, rel=0.05)
    (arrivals,) = state.sources["router/0"].arrivals
    counts = np.roll(arrivals["counts"], -1 - arrivals["newest"])
    assert counts[-16:] == pytest.approx([50] * 16), "the first second was not wholly seen"
    assert np.isnan(counts[-17])


def peak_q99(forecast: pb.LoadForecast) -> float:
    """At the lead time, the last horizon."""
    return forecast.peak_10s_quantile_rps[-2]


def test_a_load_that_begins_after_a_silence_is_not_feared_for_it(
    router: Callable, declared: Registry
) -> None:
    source = router("chat")
    state = feed(source, EMPTY, 103, 0, declared)
    for second in range(1, 60):
        state = feed(source, state, 10, 4, declared)
        assert second < 3 or peak_q99(only(state)) < 2.5 * 40


@pytest.mark.parametrize("restarted", [False, True])
def test_no_forecast_is_judged_by_what_came_in_a_gap(
    router: Callable, declared: Registry, restarted: bool
) -> None:
    source = router("chat")
    state = feed(source, EMPTY, 600, 4, declared)
    before, judged = only(state), judgement(state)
    if restarted:
        source.set(series.ARRIVALS, "chat", 0)
    else:
        source.add(series.ARRIVALS, "chat", 4 * 150 * 3)  # thrice as much as before
    state, _ = fold(state, source.sight(after_ms=15_000), declared)
    state = feed(source, state, 140, 4, declared)
    assert judgement(state) == judged, "all that ended was made before the gap, or in it"
    state = feed(source, state, 30, 4, declared)
    assert judgement(state) != judged
    assert peak_q99(only(state)) < (1.2 if restarted else 2) * peak_q99(before)


def test_a_source_that_was_away_and_started_again_keeps_its_level(router: Callable) -> None:
    source = router("chat")
    state = feed(source, EMPTY, 300, 4)
    source.set(series.ARRIVALS, "chat", 0)
    state, _ = fold(state, source.sight(after_ms=15_000))
    assert only(state).arrival_rate_rps == pytest.approx(40, rel=0.05)


def test_a_long_silence_is_bridged_in_bounded_work(router: Callable) -> None:
    source = router("chat")
    state = feed(source, EMPTY, 30, 5)
    state, _ = fold(state, source.sight(after_ms=400_000))
    assert only(state).arrival_rate_rps == pytest.approx(0, abs=0.1)


def test_a_value_not_known_loses_no_event(router: Callable) -> None:
    source = router("chat")
    state = feed(source, EMPTY, 100, 5)
    held = source.values[(series.ARRIVALS, "chat", 0)]
    source.set(series.ARRIVALS, "chat", np.nan)
    state, outcome = fold(state, source.sight())
    assert not outcome.skipped
    source.set(series.ARRIVALS, "chat", held + 5)
    state = feed(source, state, 1, 5)
    assert state.sources["router/0"].values[0] == held + 10
    assert only(state).arrival_rate_rps > 0


def test_a_new_layout_keeps_what_is_known(router: Callable, declared: Registry) -> None:
    small, large = router("chat"), router("audio", "chat")
    state = feed(small, EMPTY, 200, 4, declared)
    large.at_ms = small.at_ms
    large.set(series.ARRIVALS, "chat", small.values[(series.ARRIVALS, "chat", 0)] + 4)
    state, _ = fold(state, large.sight(), declared)
    audio, chat = partition.forecasts(state, 0, POLICY).forecasts
    assert chat.arrival_rate_rps == pytest.approx(40, rel=0.01)
    assert chat.HasField("dispersion")
    assert not audio.HasField("arrival_rate_rps")


def test_a_model_declared_later_gets_its_lead_time_and_law(
    router: Callable, declared: Registry
) -> None:
    source = router("chat")
    state = feed(source, EMPTY, 50, 4)
    assert not only(state).lead_time_ms
    state = feed(source, state, 1, 4, declared)
    assert only(state).lead_time_ms["L4"] == pytest.approx(12_200)
    assert only(state).arrival_rate_rps == pytest.approx(40, rel=0.01)
    withdrawn = registry.with_model(declared, "chat", None)
    assert not only(feed(source, state, 1, 4, withdrawn)).law


def test_measured_loads_and_batches_correct_the_registry(
    router: Callable, declared: Registry
) -> None:
    source = router("chat")
    state = feed(source, EMPTY, 2, 4, declared)
    source.set(series.LOADS, "chat", 1)
    source.set(series.LOAD_MS, "chat", 20_000)
    for metric, value in (
        (series.BATCHES, 1000),
        (series.BATCH_REQUESTS, 8000),
        (series.BATCH_SERVICE_MS, 90_000),
        (series.BATCH_REQUESTS_SQUARED, 64_000),
        (series.BATCH_CROSS, 720_000),
    ):
        source.set(metric, "chat", value)
    forecast = only(feed(source, state, 1, 4, declared))
    assert forecast.lead_time_ms["L4"] == pytest.approx(19_000 + POLICY.decision_ms)
    law = forecast.law["L4"]
    assert law.alpha_ms + 8 * law.beta_ms == pytest.approx(90, rel=0.02)
    assert law.batches == 1000


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"at_ms": NOW_MS + 86_400_000}, "at_ms"),
        ({"at_ms": 0}, "at_ms"),
        ({"next_by_ms": 1}, "next_by_ms"),
        ({"next_by_ms": NOW_MS * 2}, "next_by_ms"),
    ],
)
def test_times_that_cannot_be_true_are_refused(router: Callable, change: dict, said: str) -> None:
    with pytest.raises(ContractError, match=said):
        fold(EMPTY, router("chat").sight()._replace(**change))


@pytest.mark.parametrize("value", [-1.0, 1e300])
def test_values_that_no_counter_can_have_are_refused(router: Callable, value: float) -> None:
    source = router("chat")
    source.set(series.ARRIVALS, "chat", value)
    with pytest.raises(ContractError, match=r"arrivals_total of chat is (-1|1e\+300)"):
        fold(EMPTY, source.sight())


def test_a_source_that_would_exceed_the_bound_is_left_out(router: Callable) -> None:
    policy = Policy(series_max=60)
    state, outcome = fold(EMPTY, router("chat").sight(), policy=policy)
    assert not outcome.skipped
    other = wire.layout_of("app", [pb.Series(metric=f"m{i}") for i in range(30)])
    sight = Sight(other, "app", 1_800_000_000_200, 1_800_000_000_300, np.zeros(30))
    assert fold(state, sight, policy=policy) == (state, Outcome("too_many_series"))


def test_a_source_long_gone_is_forgotten(router: Callable, collector: Callable) -> None:
    source, host = router("chat"), collector("host", "n1")
    state, _ = fold(EMPTY, source.sight())
    state, _ = fold(state, host.sight(after_ms=60_000))
    assert len(state.sources) == 2
    state, outcome = fold(state, host.sight(after_ms=120_000))
    assert outcome.forgotten == 1
    assert list(state.sources) == ["host/n1"]


def test_another_source_cannot_speak_for_a_model(router: Callable) -> None:
    source = router("chat")
    state = feed(source, EMPTY, 20, 5)
    layout = wire.layout_of("app", [pb.Series(metric=series.ARRIVALS, model="chat")])
    for at in range(3):
        at_ms = source.at_ms + 1000 * at
        state, _ = fold(state, Sight(layout, "app", at_ms, at_ms + 9, np.array([1e6 * at])))
    assert only(state).arrival_rate_rps == pytest.approx(50, rel=0.05)


def test_a_node_is_scored_from_all_its_collectors(collector: Callable) -> None:
    host, disk = collector("host", "n1"), collector("disk", "n1")
    host.set(series.HOST_CPU_COUNT, "n1", 2)
    host.set(series.HOST_MEMORY_TOTAL, "n1", 100)
    host.set(series.HOST_MEMORY_USED, "n1", 50)
    state = EMPTY
    for _ in range(2):
        host.add(series.HOST_CPU_BUSY_S, "n1", 1.0)
        disk.add(series.HOST_DISK_BUSY_S, "n1", 1.0)
        for source in (host, disk):
            state, outcome = fold(state, source.sight())
            assert outcome == Outcome("", models=False, nodes=True)
    message = partition.scores(state, 2, POLICY)
    (score,) = message.scores
    assert message.partition == 2
    assert score.node == "n1"
    assert score.score == pytest.approx(0.4 * 0.5 + 0.3 * 0.5 + 0.2 * 0.2 + 0.0)
    assert score.newest_sample_ms == disk.at_ms
    assert score.next_by_ms == host.at_ms + 3000, "as fresh as its oldest part"
    assert score.profile == pb.NodeScore.UNKNOWN
    assert not partition.forecasts(state, 2, POLICY).forecasts


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(1, 5000)), max_size=25), st.booleans())
def test_no_history_makes_a_forecast_that_cannot_be_sent(
    steps: list[tuple[int, int]], known: bool
) -> None:
    layout = wire.layout_of("r", [pb.Series(metric=series.ARRIVALS, model="chat")])
    state, at_ms, total = EMPTY, 1_800_000_000_000, 0
    for count, after_ms in steps:
        at_ms, total = at_ms + after_ms, total + count
        value = np.array([float(total)]) if known or count % 3 else np.array([np.nan])
        state, outcome = fold(state, Sight(layout, "r", at_ms, at_ms + 300, value))
        assert not outcome.skipped
    for forecast in partition.forecasts(state, 0, POLICY).forecasts:
        for rates in (forecast.mean_rps, forecast.quantile_rps, forecast.peak_10s_quantile_rps):
            assert np.isfinite(rates).all()
            assert (np.array(rates) >= 0).all()
