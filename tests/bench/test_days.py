"""Loads with days: their shape, what came before, and that policies see no more of it."""

import numpy as np
import pytest
import yaml

from bench.days import DAY, PROFILES, Days, Noise, Profile, draw_days, shape
from bench.fit.__main__ import LAWS
from bench.fit.days import harmonics
from bench.full import full_replica
from bench.load import POISSON, load_of
from bench.policies.autoscaler import case_of
from bench.policies.policy import Setting
from bench.scenario import DaysSpec, read_scenario
from services.load.core.synthetic import M_SMALL, count_dispersion

THREE_DAYS = read_scenario("three_days")
HOUR_MS = 3_600_000.0


def test_profiles_are_those_that_were_fitted() -> None:
    fitted = {
        entry["load"]: Profile(
            tuple(entry["ln_rate_harmonics"]),
            Noise(*entry["of_days"].values()),
            Noise(*entry["within_days"].values()),
        )
        for entry in yaml.safe_load(LAWS.read_text())["days"]
    }
    assert fitted == PROFILES


def test_a_day_that_is_one_wave_is_fitted_exactly() -> None:
    at_s = 600.0 * np.arange(288)
    rate = 50 * np.exp(0.3 * np.cos(2 * np.pi * at_s / 86_400))
    load = harmonics(at_s, rate)
    x = load.fitted(np.ones(288, np.bool_))
    assert x == pytest.approx([np.log(50), 0.3, *[0] * 7], abs=1e-9)


def test_the_mean_of_many_days_is_one() -> None:
    rng = np.random.default_rng(1)
    assert shape(PROFILES["m_small"]).mean() == pytest.approx(1)
    many = [
        draw_days(DaysSpec(profile="m_small", history_days=60), 0.0, rng).before.mean()
        for _ in range(20)
    ]
    assert np.mean(many) == pytest.approx(1, abs=0.02)


def test_the_run_goes_on_where_the_history_ends() -> None:
    spec = DaysSpec(profile="m_small", history_days=2, begins_h=20.5)
    days = draw_days(spec, 2 * HOUR_MS, np.random.default_rng(3))
    assert len(days.before) == 2 * DAY
    joined = np.concatenate([days.before, days.played])
    steps = np.abs(np.diff(np.log(joined)))
    assert steps[2 * DAY - 1] < 5 * np.median(steps)
    of_day = np.log(shape(PROFILES["m_small"]))
    begins = round(20.5 * 60)
    averaged = np.mean(
        [
            np.log(draw_days(spec, 2 * HOUR_MS, np.random.default_rng(seed)).played[:121])
            for seed in range(400)
        ],
        axis=0,
    )
    spread = averaged - of_day[begins : begins + 121]
    assert np.ptp(spread) < 0.06


def test_arrivals_are_bent_and_none_is_added_or_lost() -> None:
    days = Days(np.zeros(0), np.array([1.0, 1.0, 3.0, 3.0, 3.0]))
    even_ms = np.linspace(0, 180_000, 7001)[:-1]
    at_ms = days.bend(even_ms, 180_000.0)
    assert len(at_ms) == 7000
    # Of 1 + 2 + 3 in three minutes.
    counts = np.histogram(at_ms, 60_000 * np.arange(4))[0]
    assert counts == pytest.approx([7000 / 6, 7000 / 3, 7000 / 2], abs=2)
    assert days.mean(180_000.0) == pytest.approx(2, rel=1e-3)


def test_minutes_of_the_history_spread_as_many_renewals_do() -> None:
    assert count_dispersion(POISSON) == pytest.approx(1, rel=1e-3)
    days = Days(np.ones(20_000), np.ones(2))
    for clients in (POISSON, M_SMALL):
        past = days.past_rps(clients, 50.0, np.random.default_rng(1))
        assert past.mean() == pytest.approx(50, rel=0.01)
        assert 60 * past.var() / past.mean() == pytest.approx(count_dispersion(clients), rel=0.05)


def test_a_policy_sees_the_days_before_and_nothing_of_what_comes() -> None:
    load = load_of(THREE_DAYS, 1)
    full = {spec.name: full_replica(spec, load.arrivals[spec.name]) for spec in THREE_DAYS.models}
    for spec in THREE_DAYS.models:
        case = case_of(spec, Setting(THREE_DAYS, full, load, 1))
        days = THREE_DAYS.load[spec.name].days
        assert days is not None
        assert len(case.past_rps) == DAY * days.history_days
        assert case.past_rps.min() >= 0
        assert f"days of {days.profile}" in load.labels()[spec.name]
    tiny = read_scenario("tiny")
    assert len(load_of(tiny, 1).past_rps["chat"]) == 0


def test_the_same_seed_gives_the_same_days_and_another_one_others() -> None:
    first, again, other = (load_of(THREE_DAYS, seed).past_rps["chat"] for seed in (1, 1, 2))
    assert first.tobytes() == again.tobytes()
    assert first.tobytes() != other.tobytes()
