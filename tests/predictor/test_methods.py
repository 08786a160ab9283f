"""The methods of foresee on arrivals: what they find, and whom the mixture trusts."""

import numpy as np
import pytest

from services.predictor.core import arrivals, methods
from services.predictor.core.foresee.arrays import PERIOD, POINT, TABLE_EXPERT
from services.predictor.core.horizons import FIVE, LEAD, PEAK, SECOND, TEN, TICK
from services.predictor.core.jit import Row

LEAD_S = 60.0


class Model:
    """One model, second by second."""

    def __init__(self, begin: int = 1) -> None:
        (self.arrivals,), (self.learned,) = arrivals.nothing_seen(1), methods.nothing_learned(1)
        self.arrivals["partial"] = self.arrivals["early"] = 0
        self.second = begin

    def see(self, counts: np.ndarray, lead_s: float = LEAD_S) -> np.ndarray:
        """What is foretold after each second, (seconds, horizons)."""
        told = np.empty((len(counts), 6))
        for at, count in enumerate(counts.astype(float).tolist()):
            arrivals.add(self.arrivals, count, 0.0)
            arrivals.close_second(self.arrivals)
            methods.close_second(self.learned, self.arrivals, self.second, lead_s)
            told[at] = methods.points(self.learned)
            self.second += 1
        return told


def weights(learned: Row) -> np.ndarray:
    return learned["weights"][LEAD - SECOND]


def test_a_steady_load_is_foretold_at_every_horizon() -> None:
    told = Model().see(np.random.default_rng(1).poisson(40, 600))
    assert told[300:].mean(axis=0) == pytest.approx(np.full(6, 40.0), rel=0.03)
    assert told[300:, LEAD].std() < 2, "the slow ones carry what lies far ahead"


def test_where_the_lead_time_is_not_known_nothing_is_said_of_it() -> None:
    told = Model().see(np.full(30, 9), lead_s=np.nan)[-1]
    assert np.isnan(told[[LEAD, PEAK]]).all()
    assert told[[TICK, SECOND, FIVE, TEN]] == pytest.approx(np.full(4, 9.0))


def test_a_season_of_five_minutes_is_found_and_foretold() -> None:
    at = np.arange(4000)
    rate = 60 * (1 + 0.7 * np.sin(2 * np.pi * at / 300))
    model = Model()
    told = model.see(np.random.default_rng(2).poisson(rate))
    assert model.learned["marks"][PERIOD] == pytest.approx(300, abs=6)
    assert weights(model.learned)[TABLE_EXPERT : TABLE_EXPERT + 2].sum() > 0.5
    judged = np.arange(2000, len(at) - 60)
    true = np.array([rate[i + 1 : i + 61].mean() for i in judged])
    tens = np.convolve(rate, np.full(10, 0.1), "valid")  # the mean of the ten from i on
    peak = np.array([tens[i + 1 : i + 52].max() for i in judged])
    assert np.abs(told[judged, LEAD] - true).mean() < 0.08 * 60
    assert np.abs(told[judged, PEAK] - peak).mean() < 0.15 * 60


@pytest.mark.parametrize("times", [1.6, 10.0])
def test_a_new_level_is_in_all_horizons_within_fifteen_seconds(times: float) -> None:
    rng = np.random.default_rng(3)
    model = Model()
    model.see(rng.poisson(50, 600))
    told = model.see(rng.poisson(50 * times, 15))[-1]
    assert told == pytest.approx(np.full(6, 50 * times), rel=0.15)


def test_a_change_of_the_lead_time_drops_what_was_open_for_the_old_one() -> None:
    model = Model()
    model.see(np.full(100, 9))
    target = LEAD - SECOND
    assert not np.isnan(model.learned["pending"][target, :, POINT]).any()
    model.see(np.full(1, 9), lead_s=65.0)
    assert np.isnan(model.learned["pending"][target, :, POINT]).sum() >= 3
    assert not np.isnan(model.learned["pending"][:target, :, POINT]).any()


def test_what_came_in_a_gap_judges_nobody() -> None:
    model = Model()
    model.see(np.random.default_rng(4).poisson(30, 200))
    before = weights(model.learned).copy()
    methods.skip_gap(model.learned)
    model.see(np.full(59, 300))
    assert np.array_equal(weights(model.learned), before)


def test_not_all_models_look_for_a_season_in_the_same_second() -> None:
    assert len(set(methods.nothing_learned(50)["turn"].tolist())) == 50
