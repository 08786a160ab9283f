"""What a partition foresees of a load that was announced, on a source that exists as its ticks."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from libs.common import plimsoll_pb2 as pb
from libs.common import series
from services.predictor.core import partition
from services.predictor.core.announcements import Announced, post
from services.predictor.core.partition import Partition
from services.predictor.core.registry import Registry
from services.predictor.core.residuals import QUANTILES
from services.predictor.core.source import Policy
from services.predictor.core.triggers import Lift
from tests.predictor.conftest import START_MS

POLICY = Policy()
NOW_MS = START_MS + 86_400_000
CALM_RPS, FACTOR = 40.0, 3.0
STEP_S = 60  # after START_MS
LIFT = Lift(0, START_MS + 1000 * STEP_S, START_MS + 1000 * (STEP_S + 60), 0.0, FACTOR)


def announced(*lifts: Lift) -> Announced:
    said: Announced = {}
    for lift in lifts:
        said, _ = post(said, "chat", lift, START_MS, ("chat",))
    return said


def played(
    router: Callable,
    declared: Registry,
    said: Announced,
    until_s: int,
    factor: float = FACTOR,
    seed: int = 7,
) -> Iterator[tuple[float, pb.LoadForecast, Partition]]:
    """Yield what is foreseen each second: a Poisson load that rises for a minute at STEP_S."""
    source, state, rng = router("chat"), Partition({}), np.random.default_rng(seed)
    for tick in range(10 * until_s):
        rises = STEP_S <= tick / 10 < STEP_S + 60
        rate_rps = CALM_RPS * (factor if rises else 1.0)
        source.add(series.ARRIVALS, "chat", float(rng.poisson(rate_rps / 10)))
        state, outcome = partition.step(state, source.sight(), declared, POLICY, NOW_MS, said)
        assert not outcome.skipped
        if tick % 10 == 9:
            (forecast,) = partition.forecasts(state, 0, POLICY).forecasts
            yield (tick + 1) / 10, forecast, state


def peak_rps(forecast: pb.LoadForecast, quantile: float) -> float:
    """The quantile of the peak at the first horizon that covers the lead time."""
    at = int(np.searchsorted(np.array(forecast.horizon_ms), max(forecast.lead_time_ms.values())))
    table = np.array(forecast.peak_10s_quantile_rps).reshape(-1, len(QUANTILES))
    return float(table[at, np.searchsorted(QUANTILES, quantile)])


@pytest.mark.parametrize("seed", range(3))
def test_a_step_that_was_announced_is_covered_a_lead_time_before_it_comes(
    router: Callable, declared: Registry, seed: int
) -> None:
    needed_rps = CALM_RPS * FACTOR
    told = played(router, declared, announced(LIFT), STEP_S, seed=seed)
    untold = played(router, declared, announced(), STEP_S, seed=seed)
    looked = 0
    for (at_s, forecast, _), (_, blind, _) in zip(told, untold, strict=True):
        lead_s = max(forecast.lead_time_ms.values()) / 1000
        if STEP_S - lead_s <= at_s < STEP_S:
            looked += 1
            assert peak_rps(forecast, 0.99) >= needed_rps
            assert peak_rps(blind, 0.995) < needed_rps, "without the trigger nobody knows"
        if at_s < STEP_S - 20:
            assert forecast == blind, "no horizon reaches it yet"
    assert looked >= 12


def test_a_forecast_says_which_lifts_it_counts_in(router: Callable, declared: Registry) -> None:
    *_, (_, forecast, state) = played(router, declared, announced(LIFT), STEP_S - 5)
    (lift,) = forecast.lifts
    assert (lift.kind, lift.at_ms, lift.until_ms) == ("cron", LIFT.at_ms, LIFT.until_ms)
    assert lift.announced
    account = partition.accounts(state, POLICY, {"chat"})["chat"]
    assert (account.announced, account.foreseen) == (1, 0)
    assert account.lift_rps == pytest.approx((FACTOR - 1) * CALM_RPS * 10 / 15, rel=0.2)


@pytest.mark.parametrize(("factor", "gain"), [(FACTOR, 1.0), (1.0, 0.0), (2.0, 0.5)])
def test_what_came_of_a_lift_is_learned(
    router: Callable, declared: Registry, factor: float, gain: float
) -> None:
    *_, (_, forecast, state) = played(router, declared, announced(LIFT), STEP_S + 65, factor)
    gains = state.sources["router/0"].plans["chat"].gains
    assert gains[0, -1] == pytest.approx(gain, abs=0.12)
    assert not forecast.lifts, "it is over"


def test_what_was_announced_goes_with_a_source_to_its_next_layout(
    router: Callable, declared: Registry
) -> None:
    *_, (_, _, state) = played(router, declared, announced(LIFT), STEP_S + 30)
    begun = state.sources["router/0"].plans["chat"].lifts[0]
    assert begun.base_rps == pytest.approx(CALM_RPS, rel=0.2)
    wider = router("chat", "embed")
    wider.at_ms = state.sources["router/0"].at_ms
    said = announced(LIFT)
    state, _ = partition.step(state, wider.sight(), declared, POLICY, NOW_MS, said)
    after = state.sources["router/0"].plans["chat"].lifts[0]
    assert after.base_rps == begun.base_rps


def test_a_replay_gives_the_same_bytes(router: Callable, declared: Registry) -> None:
    first, second = (
        [forecast.SerializeToString(deterministic=True) for _, forecast, _ in run]
        for run in (played(router, declared, announced(LIFT), STEP_S + 20) for _ in range(2))
    )
    assert first == second


def test_the_recent_quality_is_said_once_it_is_known(router: Callable, declared: Registry) -> None:
    run = list(played(router, declared, announced(), STEP_S + 40, factor=1.0))
    assert not run[30][1].HasField("recent_wape")
    assert 0 < run[-1][1].recent_wape < 0.3
    assert 0.7 < run[-1][1].recent_coverage_p95 <= 1


def test_a_rise_that_was_foreseen_is_no_error_and_widens_no_margin(
    router: Callable, declared: Registry
) -> None:
    until_s = STEP_S + 50
    *_, (_, told, state) = played(router, declared, announced(LIFT), until_s)
    *_, (_, blind, surprised) = played(router, declared, announced(), until_s)

    def wape(state: Partition) -> float:
        account = partition.accounts(state, POLICY, {"chat"})["chat"]
        return account.error_rps / account.actual_rps

    assert wape(state) < 0.15 < wape(surprised)
    assert partition.accounts(state, POLICY, {"chat"})["chat"].judged > STEP_S - 40, (
        "the calm before is"
    )
    assert told.quantile_rps[-1] < 0.9 * blind.quantile_rps[-1]
