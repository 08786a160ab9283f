import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from services.predictor.core import arrivals, methods, residuals
from services.predictor.core.arrivals import WINDOW_S, Outlook
from services.predictor.core.horizons import FIVE, LEAD, PEAK, SECOND, TEN, TICK
from services.predictor.core.jit import Row, Table
from services.predictor.core.residuals import QUANTILES


def at_a_whole_second(models: int) -> Table:
    state = arrivals.nothing_seen(models)
    state["partial"] = state["early"] = 0
    return state


def close(state: Row, learned: Row, record: Row, count: float, lead_s: float) -> Outlook:
    arrivals.add(state, count, count / 5)
    arrivals.close_second(state)
    methods.close_second(learned, state, int(state["known"]), lead_s)
    now = arrivals.outlook(state, methods.points(learned))
    residuals.close_second(record, state, count / 5, now, lead_s)
    return now


def live(counts: np.ndarray, lead_s: float) -> list[tuple[list[Outlook], Table]]:
    """Run (seconds, models) counts; what stood at the end of each second."""
    models = counts.shape[1]
    states = at_a_whole_second(models), methods.nothing_learned(models), residuals.no_record(models)
    out = []
    for count in counts.astype(float).tolist():
        rows = zip(*states, count, strict=True)
        out.append(([close(*row, lead_s) for row in rows], states[-1].copy()))
    return out


def foresee(
    record: Table, now: list[Outlook], lead_s: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (models, 6), quantiles and 10 s peaks (models, 6, quantiles), by kept horizon.

    Peaks are of TICK, SECOND, FIVE and LEAD.
    """
    shape = (len(record), 6, len(QUANTILES))
    mean, quantiles, peaks = np.full(shape[:2], np.nan), np.full(shape, np.nan), np.zeros(shape)
    for m, (row, seen) in enumerate(zip(record, now, strict=True)):
        for horizon in range(6):
            mean[m, horizon] = residuals.foresee_one(
                row, seen, horizon, lead_s, quantiles[m, horizon]
            )
        said = np.empty(4), np.empty((4, len(QUANTILES))), np.empty((4, len(QUANTILES)))
        residuals.foresee(row, seen, lead_s, *said)
        at = [TICK, SECOND, FIVE, LEAD]
        assert said[0] == pytest.approx(mean[m, at], nan_ok=True)
        assert said[1] == pytest.approx(quantiles[m, at], nan_ok=True)
        peaks[m, at] = said[2]
    return mean, quantiles, peaks


@pytest.mark.parametrize("spread", [1.0, 6.0])
def test_quantiles_hold_as_often_as_they_say(spread: float) -> None:
    rng = np.random.default_rng(3)
    seconds, models, lead = 500, 12, 20
    mean = 30.0
    shape = (seconds, models)
    if spread == 1.0:
        counts = rng.poisson(mean, shape)
    else:
        counts = rng.negative_binomial(mean / (spread - 1), 1 / spread, shape)
    held = {horizon: [] for horizon in (SECOND, FIVE, LEAD)}
    peaks = []
    for at, (now, record) in enumerate(live(counts, lead)):
        if at < 250 or at + lead >= seconds:
            continue
        _, quantiles, peak = foresee(record, now, float(lead))
        for horizon, length in ((SECOND, 1), (FIVE, 5), (LEAD, lead)):
            came = counts[at + 1 : at + 1 + length].mean(axis=0)
            held[horizon].append(came[:, None] <= quantiles[:, horizon])
        ten = [counts[at + 1 + k : at + 11 + k].mean(axis=0) for k in range(lead - 9)]
        peaks.append(np.max(ten, axis=0)[:, None] <= peak[:, LEAD])
    for shares in (*(np.mean(h, axis=(0, 1)) for h in held.values()), np.mean(peaks, axis=(0, 1))):
        assert shares == pytest.approx(QUANTILES, abs=0.07)
        assert shares[-1] > 0.97


def test_before_there_is_a_record_the_bound_is_cautious() -> None:
    rng = np.random.default_rng(4)
    counts = rng.poisson(20, (60, 40))
    held = []
    for at, (now, record) in enumerate(live(counts, 10)):
        if 15 <= at < 49:
            _, quantiles, _ = foresee(record, now, 10.0)
            held.append(counts[at + 1 : at + 11].mean(axis=0)[:, None] <= quantiles[:, LEAD])
    assert (np.mean(held, axis=(0, 1)) >= QUANTILES - 0.05).all()


def test_what_a_forecast_of_nothing_missed_does_not_scale_with_the_load() -> None:
    rng = np.random.default_rng(7)
    counts = np.concatenate((rng.poisson(0.1, (60, 20)), rng.poisson(40, (40, 20))))
    now, record = live(counts, 15)[-1]
    _, _, peak = foresee(record, now, 15.0)
    assert (peak[:, LEAD, -2] < 3 * 40).all()


@pytest.mark.parametrize("burst_s", [1, 5, 20])
def test_a_burst_is_feared_and_then_forgotten_within_about_a_minute(burst_s: int) -> None:
    rng = np.random.default_rng(8)
    rates = np.concatenate((np.full(100, 37), np.full(burst_s, 370), np.full(90, 37)))
    history = live(rng.poisson(rates[:, None], (len(rates), 10)), 15)
    peaks = [foresee(record, now, 15.0)[2] for now, record in history]
    before, after, late = (peaks[at][:, LEAD, -2].mean() for at in (99, 99 + burst_s + 20, -1))
    assert after > 1.2 * before
    assert late < 1.2 * before


@settings(deadline=None)  # the first call compiles
@given(
    arrays.arrays(np.float64, (2, 6, residuals.KEPT), elements=st.floats(-50, 50)),
    st.integers(0, residuals.KEPT),
    st.sampled_from([5.0, 20.0, 60.0, 295.0, np.nan]),
)
def test_quantiles_never_fall_and_are_never_negative(
    ended: np.ndarray, known: int, lead_s: float
) -> None:
    ended[:, :, : residuals.KEPT - known] = np.nan
    record = residuals.no_record(2)
    record["ended"], record["ordered"] = ended, np.sort(ended)
    for row in record:
        residuals.set_margins(row, lead_s)
    now = [
        Outlook((10.0,) * 6, 10.0, 3.0, 2.0, 1.0),
        Outlook((0.0,) * 6, 0.0, 0.0, 9.0, 39.0),
    ]
    _, quantiles, peaks = foresee(record, now, lead_s)
    known_horizons = slice(0, 6) if lead_s == lead_s else slice(0, 4)
    assert (np.diff(quantiles[:, known_horizons], axis=2) >= 0).all()
    assert (quantiles[:, known_horizons] >= 0).all()
    assert (np.diff(peaks, axis=2) >= 0).all()
    if lead_s > 10:
        assert (peaks[:, LEAD] >= quantiles[:, LEAD]).all(), "the largest mean is above the mean"
    assert (peaks[:, FIVE] == quantiles[:, TEN]).all()
    assert np.isnan(quantiles[:, LEAD]).all() == np.isnan(lead_s)


def test_what_came_is_what_the_counts_say() -> None:
    rng = np.random.default_rng(5)
    counts = rng.poisson(9, (3, WINDOW_S)).astype(float)
    counts[2, -7] = np.nan
    steps = [1, 1, 5, 10, 40, 40]
    early = np.array([1.0, 2.0, 3.0])
    after = arrivals.nothing_seen(3)
    after["newest"] = 17
    after["counts"] = np.roll(counts, 18, axis=1)
    found = np.array(
        [
            [residuals.actual_rps(row, first, h, steps[h]) for h in range(6)]
            for row, first in zip(after, early, strict=True)
        ]
    )
    assert found[:, TICK] == pytest.approx(early / 0.2)
    assert found[:2, FIVE] == pytest.approx(counts[:2, -5:].mean(axis=1))
    assert found[:2, LEAD] == pytest.approx(counts[:2, -40:].mean(axis=1))
    brute = [max(counts[m, k - 10 : k].mean() for k in range(270, 301)) for m in range(2)]
    assert found[:2, PEAK] == pytest.approx(brute)
    assert np.isnan(found[2]).tolist() == [False, False, False, True, True, True]


def test_the_error_at_the_lead_time_is_that_of_a_straight_loop() -> None:
    rng = np.random.default_rng(6)
    counts = rng.poisson(15, (80, 1))
    history = live(counts, 10)
    error = came = 0.0
    for at, (now, _) in enumerate(history[:-10]):
        actual = counts[at + 1 : at + 11].mean()
        error += abs(actual - arrivals.mean_rps(now[0], LEAD, 10.0))
        came += actual
    (record,) = history[-1][1]
    assert record["error"] == pytest.approx(error)
    assert record["actual"] == pytest.approx(came)


def test_a_band_is_judged_as_it_was_made_a_lead_time_ago() -> None:
    rng = np.random.default_rng(9)
    lead, seconds = 10, 120
    counts = rng.poisson(15, (seconds, 2))
    history = live(counts, lead)
    covered, judged = np.zeros((2, len(residuals.BAND))), 0
    for at, (now, record) in enumerate(history[:-lead]):
        foreseen = foresee(record, now, float(lead))[1][:, LEAD]
        band = foreseen[:, np.isin(QUANTILES, residuals.BAND)]
        came = counts[at + 1 : at + 1 + lead].mean(axis=0)
        then = history[at + lead][1]
        assert then["due"] == pytest.approx(band)
        assert then["came"] == pytest.approx(came)
        covered += came[:, None] <= band
        judged += 1
    assert history[-1][1]["covered"] == pytest.approx(covered)
    assert history[-1][1]["judged"].tolist() == [judged, judged]


def test_the_caution_is_learned_where_the_record_is_too_short_to_count() -> None:
    rng = np.random.default_rng(11)
    lead = 60  # of which the last 60 residuals say little
    calm = live(rng.poisson(40, (900, 4)), lead)[-1][1]
    assert (calm["caution"][:, LEAD] < residuals.CAUTION - 0.02).all(), "it was too much"
    waves = 40 * (1 + 0.7 * np.sin(2 * np.pi * np.arange(900) / 107.3))[:, None]
    restless = live(rng.poisson(waves, (900, 4)), lead)[-1][1]
    assert (restless["caution"][:, LEAD] > calm["caution"][:, LEAD]).all()


def test_no_band_is_judged_over_a_gap() -> None:
    (state,), (learned,) = at_a_whole_second(1), methods.nothing_learned(1)
    (record,) = residuals.no_record(1)
    for _ in range(40):
        close(state, learned, record, 9.0, 10.0)
    judged = record["judged"]
    residuals.skip_gap(record)
    for _ in range(10):
        close(state, learned, record, 9.0, 10.0)
        assert record["judged"] == judged
    close(state, learned, record, 9.0, 10.0)
    assert record["judged"] == judged + 1, "made after it"


@settings(deadline=None)
@given(st.lists(st.one_of(st.floats(-5, 5), st.just(math.nan), st.just(1.0)), max_size=60))
def test_replacing_the_oldest_leaves_a_row_in_order(values: list[float]) -> None:
    ring = np.full(7, np.nan)
    ordered = ring.copy()
    for n, value in enumerate(values):
        residuals.replace(ordered, ring[n % len(ring)], value)
        ring[n % len(ring)] = value
        np.testing.assert_array_equal(ordered, np.sort(ring))
