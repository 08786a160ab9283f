"""The bank of series: what no input may break, and what each method is there for."""

import numpy as np
import numpy.typing as npt
import pytest

from services.predictor.core.foresee.arrays import AT, MEAN, PEAK, PERIOD, Bank
from services.predictor.core.foresee.bank import (
    Design,
    Season,
    forecast,
    join,
    make,
    set_horizons,
    take,
    update,
)

Values = npt.NDArray[np.float64]


def fed(bank: Bank, values: Values, begin: int = 1) -> Bank:
    """Feed values, (steps, rows), one step after the other."""
    for step, row in enumerate(values, begin):
        update(bank, row, step)
    return bank


def walked(values: Values, horizons: list[int], design: Design) -> npt.NDArray[np.float32]:
    """Return the quantiles foreseen for one series after each step, (steps, targets, 6)."""
    bank = make(1, design)
    set_horizons(bank, [horizons])
    made = []
    for step, value in enumerate(values, 1):
        update(bank, np.array([value]), step)
        made.append(forecast(bank, step).quantiles[0])
    return np.array(made)


def bytes_of(bank: Bank) -> list[bytes]:
    return [part.tobytes() for part in bank]


SMALL = Design((AT, MEAN, PEAK), slots=4, window=60, peak_steps=3, seasons=(Season(24),))


@pytest.mark.parametrize("seed", range(5))
def test_nothing_foreseen_leaves_what_a_series_can_be(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bank = make(3, SMALL, upper=[np.inf, 100.0, 1.0])
    set_horizons(bank, np.tile([2, 7, 9], (3, 1)))
    for step in range(1, 400):
        wild = rng.pareto(0.7, 3) * rng.choice([0, 1, 1e4], 3)
        update(bank, np.minimum(wild, [1e12, 100.0, 1.0]), step)
        made = forecast(bank, step)
        assert (made.mean >= 0).all()
        assert (made.quantiles >= 0).all()
        assert (made.mean <= [[1e30], [100.0], [1.0]]).all()
        assert (made.quantiles <= np.array([1e30, 100.0, 1.0])[:, None, None]).all()
        assert (np.diff(made.quantiles, axis=2) >= 0).all()


def test_a_signed_series_may_be_foreseen_below_zero() -> None:
    bank = make(1, Design((AT,)), signed=True)
    fed(bank, np.full((50, 1), -7.0))
    assert forecast(bank, 50).quantiles[0, 0] == pytest.approx(np.full(6, -7.0), abs=1e-3)


def test_a_replay_gives_the_same_bytes() -> None:
    values = np.random.default_rng(1).poisson(9, (300, 4)).astype(float)
    values[values == 5] = np.nan
    once, twice = (fed(make(4, SMALL), values) for _ in range(2))
    assert bytes_of(once) == bytes_of(twice)


def test_a_bank_carried_on_from_its_arrays_is_as_if_never_stopped() -> None:
    values = np.random.default_rng(2).poisson(9, (300, 4)).astype(float)
    whole = fed(make(4, SMALL), values)
    half = fed(make(4, SMALL), values[:150])
    restored = Bank(*(np.frombuffer(p.tobytes(), p.dtype).reshape(p.shape).copy() for p in half))
    assert bytes_of(fed(restored, values[150:], 151)) == bytes_of(whole)


def test_rows_do_not_know_of_each_other_and_can_be_moved_and_added() -> None:
    values = np.random.default_rng(3).poisson(30, (200, 3)).astype(float)
    bank = fed(make(3, SMALL), values)
    moved = take(bank, np.array([2, 0]))
    grown = join(moved, make(1, SMALL))
    before, after = forecast(bank, 200), forecast(grown, 200)
    assert np.array_equal(after.quantiles[:2], before.quantiles[[2, 0]])
    assert np.isnan(after.mean[2]).all()


def test_a_run_of_rows_can_have_steps_of_its_own() -> None:
    values = np.random.default_rng(4).poisson(30, (100, 2)).astype(float)
    bank = make(3, Design((AT,)))
    for step, row in enumerate(values, 1):
        update(bank, row, step, first=1)
    made = forecast(bank, 100, first=1)
    assert made.mean.shape == (2, 1)
    assert np.isnan(forecast(bank, 100, rows=1).mean).all()
    assert made.mean[:, 0] == pytest.approx([30, 30], rel=0.2)


def test_missing_samples_teach_nothing() -> None:
    bank = fed(make(2, SMALL), np.full((100, 2), 12.0))
    before = forecast(bank, 100).mean
    for step in range(101, 200):
        assert update(bank, np.full(2, np.nan), step) == 0
    assert forecast(bank, 199).mean == pytest.approx(before)


@pytest.mark.parametrize("bad", [np.inf, -np.inf, -1.0, 101.0])
def test_what_cannot_be_is_refused_counted_and_taken_for_missing(bad: float) -> None:
    values = np.full((80, 1), 12.0)
    bank = fed(make(1, SMALL, upper=100.0), values)
    gap = fed(make(1, SMALL, upper=100.0), values)
    assert update(bank, np.array([bad]), 81) == 1
    update(gap, np.array([np.nan]), 81)
    assert bytes_of(bank) == bytes_of(gap)


def test_before_its_first_value_nothing_is_foreseen_of_a_series() -> None:
    bank = make(1, SMALL)
    update(bank, np.array([np.nan]), 1)
    made = forecast(bank, 1)
    assert np.isnan(made.mean).all()
    assert np.isnan(made.quantiles).all()


def test_a_horizon_of_zero_is_not_asked() -> None:
    bank = make(1, Design((AT, AT)))
    set_horizons(bank, [[1, 0]])
    fed(bank, np.full((9, 1), 4.0))
    assert np.isnan(forecast(bank, 9).mean[0]).tolist() == [False, True]


def test_a_new_level_is_believed_and_the_old_one_forgotten() -> None:
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.poisson(20, 600), rng.poisson(200, 60)]).astype(float)
    median = walked(values, [3], Design((AT,)))[:, 0, 0]
    assert median[590] == pytest.approx(20, rel=0.25)
    assert median[-1] == pytest.approx(200, rel=0.1)


def test_an_outlier_does_not_move_the_level() -> None:
    values = np.random.default_rng(6).poisson(100, 500).astype(float)
    values[450] = 10_000
    median = walked(values, [3], Design((AT,)))[:, 0, 0]
    assert median[455] == pytest.approx(100, rel=0.25)


def test_a_season_of_the_calendar_is_foreseen() -> None:
    at = np.arange(24 * 20)
    truth = 100 + 80 * np.sin(at * 2 * np.pi / 24)
    values = np.random.default_rng(7).poisson(truth).astype(float)
    median = walked(values, [6], Design((AT,), seasons=(Season(24),)))[:, 0, 0]
    judged = np.arange(24 * 12, len(values) - 6)
    error = np.abs(median[judged] - truth[judged + 6]).mean()
    as_last = np.abs(values[judged] - truth[judged + 6]).mean()
    assert error < 0.2 * as_last


@pytest.mark.parametrize("period", [7, 30, 60])
def test_a_short_season_is_found_and_foreseen(period: int) -> None:
    at = np.arange(1200)
    truth = 100 + 80 * np.sin(at * 2 * np.pi / period)
    values = np.random.default_rng(8).poisson(truth).astype(float)
    design = Design((AT,), window=300)
    bank = fed(make(1, design), values[:, None])
    assert bank.marks[0, PERIOD] == pytest.approx(period, abs=period // 50)  # its peak is flat
    ahead = max(1, period // 4)
    median = walked(values, [ahead], design)[:, 0, 0]
    judged = np.arange(800, len(values) - ahead)
    error = np.abs(median[judged] - truth[judged + ahead]).mean()
    assert error < 0.3 * np.abs(values[judged] - truth[judged + ahead]).mean()


def test_no_season_is_found_in_noise() -> None:
    values = np.random.default_rng(9).poisson(50, (1000, 20)).astype(float)
    bank = fed(make(20, Design((AT,), window=300)), values)
    assert (bank.marks[:, PERIOD] == 0).all()


def ar1(rng: np.random.Generator, steps: int) -> Values:
    noise = rng.normal(0, 5, steps)
    values = np.empty(steps)
    values[0] = 100
    for i in range(1, steps):
        values[i] = 100 + 0.9 * (values[i - 1] - 100) + noise[i]
    return values


@pytest.mark.parametrize("kind", ["ar1", "poisson", "bursts"])
def test_quantiles_cover_what_they_promise(kind: str) -> None:
    rng = np.random.default_rng(10)
    steps = 4000
    values = {
        "ar1": ar1(rng, steps),
        "poisson": rng.poisson(4, steps).astype(float),
        "bursts": rng.pareto(1.5, steps) * 10,
    }[kind]
    made = walked(values, [1, 3, 12], Design((AT, AT, AT), slots=12))
    for target, horizon in enumerate((1, 3, 12)):
        judged = np.arange(1000, steps - horizon)
        came = values[judged + horizon][:, None]
        foreseen = made[judged, target]
        below = (came < foreseen).mean(axis=0)
        at_or_below = (came <= foreseen).mean(axis=0)
        promised = np.array([0.5, 0.8, 0.9, 0.95, 0.99, 0.995])
        share = np.clip(promised, below, at_or_below)
        assert share == pytest.approx(promised, abs=0.02)


def test_mean_and_peak_are_those_of_the_steps_to_come() -> None:
    rng = np.random.default_rng(11)
    values = rng.poisson(50, 3000).astype(float)
    made = walked(values, [20, 20], Design((MEAN, PEAK), slots=20, peak_steps=5))
    sums = np.concatenate(([0.0], np.cumsum(values)))
    fives = (sums[5:] - sums[:-5]) / 5
    judged = np.arange(1000, len(values) - 20)
    # Value i + 1 is the first to come; a mean of five that ends at i + 5 is the first whole one.
    means = np.array([values[i + 1 : i + 21].mean() for i in judged])
    peaks = np.array([fives[i + 1 : i + 17].max() for i in judged])
    for target, came in enumerate((means, peaks)):
        share = (came[:, None] <= made[judged, target]).mean(axis=0)
        assert share == pytest.approx([0.5, 0.8, 0.9, 0.95, 0.99, 0.995], abs=0.05)
    assert (made[judged, 1, 0] > made[judged, 0, 0]).mean() > 0.95


def test_a_row_weighs_no_more_than_four_hundred_bytes() -> None:
    bank = make(1000, Design((AT, MEAN, MEAN, PEAK)))
    beside = {"due", "pending", "recent", "window", "short", "season", "swing"}
    beside |= {"calendar", "kinds", "every"}  # of all rows together
    held = sum(part.nbytes for name, part in bank._asdict().items() if name not in beside)
    assert held / 1000 <= 400


def test_many_rows_judge_by_turns_and_still_learn() -> None:
    values = np.random.default_rng(12).poisson(40, (800, 50)).astype(float)
    bank = fed(make(50, Design((AT,), slots=1, every=16)), values)
    made = forecast(bank, 800)
    assert np.median(made.quantiles[:, 0, 0]) == pytest.approx(40, rel=0.1)
    assert np.median(made.quantiles[:, 0, 3]) == pytest.approx(51, rel=0.1)  # Poisson's 95th
