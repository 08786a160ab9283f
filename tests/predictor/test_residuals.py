import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from services.predictor.core import arrivals, residuals
from services.predictor.core.arrivals import WINDOW_S, Outlook
from services.predictor.core.residuals import FIVE, LEAD, PEAK, QUANTILES, SECOND, TEN, TICK


def live(counts: np.ndarray, lead_s: float) -> list[tuple[Outlook, residuals.Residuals]]:
    """Run (seconds, models) counts; what stood at the end of each second."""
    models = counts.shape[1]
    state = arrivals.nothing_seen(models)._replace(partial=np.zeros(models), early=np.zeros(models))
    record = residuals.no_record(models)
    leads = np.full(models, lead_s)
    out = []
    for count in counts.astype(float):
        early = count / 5
        state = arrivals.close_second(arrivals.add(state, count, early))
        now = arrivals.outlook(state, 0.0)
        record = residuals.close_second(record, state, early, now, leads)
        out.append((now, record))
    return out


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
        _, quantiles, peak = residuals.foresee(record, now, np.full(models, float(lead)))
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
            _, quantiles, _ = residuals.foresee(record, now, np.full(40, 10.0))
            held.append(counts[at + 1 : at + 11].mean(axis=0)[:, None] <= quantiles[:, LEAD])
    assert (np.mean(held, axis=(0, 1)) >= QUANTILES - 0.05).all()


def test_what_a_forecast_of_nothing_missed_does_not_scale_with_the_load() -> None:
    rng = np.random.default_rng(7)
    counts = np.concatenate((rng.poisson(0.1, (60, 20)), rng.poisson(40, (40, 20))))
    now, record = live(counts, 15)[-1]
    _, _, peak = residuals.foresee(record, now, np.full(20, 15.0))
    assert (peak[:, LEAD, -2] < 3 * 40).all()


@pytest.mark.parametrize("burst_s", [1, 5, 20])
def test_a_burst_is_feared_and_then_forgotten_within_about_a_minute(burst_s: int) -> None:
    rng = np.random.default_rng(8)
    rates = np.concatenate((np.full(100, 37), np.full(burst_s, 370), np.full(90, 37)))
    history = live(rng.poisson(rates[:, None], (len(rates), 10)), 15)
    peaks = [residuals.foresee(record, now, np.full(10, 15.0))[2] for now, record in history]
    before, after, late = (peaks[at][:, LEAD, -2].mean() for at in (99, 99 + burst_s + 20, -1))
    assert after > 1.2 * before
    assert late < 1.2 * before


@given(
    arrays.arrays(np.float64, (2, 6, residuals.KEPT), elements=st.floats(-50, 50)),
    st.integers(0, residuals.KEPT),
    st.sampled_from([5.0, 20.0, 60.0, 295.0, np.nan]),
)
def test_quantiles_never_fall_and_are_never_negative(
    ended: np.ndarray, known: int, lead_s: float
) -> None:
    ended[:, :, : residuals.KEPT - known] = np.nan
    leads = np.full(2, lead_s)
    record = residuals.no_record(2)._replace(ended=ended, margin=residuals._margins(ended, leads))
    parts = ([10.0, 0.0], [0.5, -1.0], [3.0, 0.0], [2.0, 9.0], [1.0, 39.0])
    now = Outlook(*(np.array(part) for part in parts))
    _, quantiles, peaks = residuals.foresee(record, now, leads)
    known_horizons = slice(0, 6) if lead_s == lead_s else slice(0, 4)
    assert (np.diff(quantiles[:, known_horizons], axis=2) >= 0).all()
    assert (quantiles[:, known_horizons] >= 0).all()
    assert (np.diff(peaks[:, known_horizons], axis=2) >= 0).all()
    if lead_s > 10:
        assert (peaks[:, LEAD] >= quantiles[:, LEAD]).all(), "the largest mean is above the mean"
    assert (peaks[:, FIVE] == quantiles[:, TEN]).all()
    assert np.isnan(quantiles[:, LEAD]).all() == np.isnan(lead_s)


def test_what_came_is_what_the_counts_say() -> None:
    rng = np.random.default_rng(5)
    counts = rng.poisson(9, (3, WINDOW_S)).astype(float)
    counts[2, -7] = np.nan
    steps = np.tile([1, 1, 5, 10, 40, 40], (3, 1))
    early = np.array([1.0, 2.0, 3.0])
    found = residuals._actuals(counts, early, steps)
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
        error += abs(actual - arrivals.mean_rps(now, 10.0)[0])
        came += actual
    record = history[-1][1]
    assert record.error[0] == pytest.approx(error)
    assert record.actual[0] == pytest.approx(came)


def test_a_band_is_judged_as_it_was_made_a_lead_time_ago() -> None:
    rng = np.random.default_rng(9)
    lead, seconds = 10, 120
    counts = rng.poisson(15, (seconds, 2))
    history = live(counts, lead)
    covered, judged = np.zeros((2, len(residuals.BAND))), 0
    for at, (now, record) in enumerate(history[:-lead]):
        foreseen = residuals.foresee(record, now, np.full(2, float(lead)))[1][:, LEAD]
        band = foreseen[:, np.isin(QUANTILES, residuals.BAND)]
        came = counts[at + 1 : at + 1 + lead].mean(axis=0)
        then = history[at + lead][1]
        assert then.due == pytest.approx(band)
        assert then.came == pytest.approx(came)
        covered += came[:, None] <= band
        judged += 1
    assert history[-1][1].covered == pytest.approx(covered)
    assert history[-1][1].judged.tolist() == [judged, judged]


def test_no_band_is_judged_over_a_gap() -> None:
    now, record = live(np.full((40, 1), 9), 10)[-1]
    after = residuals.skip_gap(record)
    state = arrivals.nothing_seen(1)._replace(partial=np.array([9.0]), early=np.zeros(1))
    closed = residuals.close_second(
        after, arrivals.close_second(state), np.zeros(1), now, np.array([10.0])
    )
    assert closed.judged == record.judged
