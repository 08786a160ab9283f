"""Tuning: what is tried, and which setting each model takes."""

from typing import Any, NamedTuple

import numpy as np
import pytest

from bench.full import full_replica
from bench.load import load_of
from bench.peers import SCALERS, Variant, make, variants_of
from bench.policies.autoscaler import Case
from bench.policies.policy import Setting
from bench.run import Plan, run
from bench.scenario import read_scenario
from bench.tuning import best, described, settings_of, try_out
from bench.window import judged_on, tuned_on

TINY = read_scenario("tiny")


class Knob(NamedTuple):
    """A setting of nobody."""

    util: float = 0.8
    window_ms: float = 300_000.0


def came(*by_setting: tuple[float | None, float]) -> list[dict[str, Any]]:
    """What came of each setting: attainment and charge."""
    return [{"slo_attainment": share, "gpu_hours_serving": charge} for share, charge in by_setting]


def test_the_cheapest_setting_that_attains_is_taken() -> None:
    assert best(["x", "y", "z"], came((0.999, 3.0), (0.996, 2.0), (0.9, 1.0))) == "y"


def test_where_none_attains_the_highest_is_taken_or_a_cheaper_one_next_to_it() -> None:
    assert best(["x", "y", "z"], came((0.8, 1.0), (0.9, 3.0), (0.8995, 2.0))) == "z"
    assert best(["x", "y", "z"], came((0.8, 1.0), (0.9, 3.0), (0.898, 2.0))) == "y"


def test_what_misses_by_a_hair_is_no_match_for_what_attains() -> None:
    assert best(["x", "y"], came((0.9949, 1.0), (0.995, 9.0))) == "y"


def test_among_equals_and_without_requests_the_default_stays() -> None:
    assert best(["x", "y"], came((1.0, 2.0), (1.0, 2.0))) == "x"
    assert best(["x", "y"], came((None, 2.0), (None, 1.0))) == "x"


@pytest.mark.parametrize("policy", SCALERS)
def test_a_peer_tries_its_default_and_at_most_30_settings_each_once(policy: str) -> None:
    settings = settings_of(policy)
    assert settings[0] == SCALERS[policy].variants["default"]
    assert len(set(settings)) == len(settings) <= 30


def test_a_setting_is_told_by_what_is_not_its_default() -> None:
    assert described(Knob()) == "default"
    assert described(Knob(util=0.5, window_ms=60_000.0)) == "util=0.5, window_ms=60000"


def test_tuning_ends_where_judging_begins() -> None:
    load = load_of(TINY, 1)
    tuned, judged = tuned_on(TINY, load), judged_on(TINY, load)
    assert (tuned.begin_s, judged.end_s) == (6, 30)
    assert tuned.end_s == judged.begin_s == pytest.approx(13.2)


@pytest.fixture(scope="module")
def plan() -> Plan:
    load = load_of(TINY, 0)
    full = {spec.name: full_replica(spec, load.arrivals[spec.name]) for spec in TINY.models}
    return Plan(TINY, full, {"chat": 1, "vision": 1})


def test_tuning_counts_what_is_due_in_its_own_part_alone(plan: Plan) -> None:
    (tried,) = try_out(plan, "kpa", settings_of("kpa")[:1], 1)
    load, window = load_of(TINY, 1), tuned_on(TINY, load_of(TINY, 1))
    for row in tried["models"]:
        at_s = load.arrivals[row["model"]].at_ms / 1000
        inside = (at_s >= window.begin_s) & (at_s < window.end_s)
        assert row["requests"] == np.sum(inside) > 0


def test_a_tuned_peer_with_its_default_everywhere_is_the_default(plan: Plan) -> None:
    default = settings_of("kpa")[0]
    tuned = Variant("kpa", "tuned", setting=default)
    rows = [run(plan, variant, 1).row for variant in (Variant("kpa"), tuned)]
    for figure in ("slo_attainment", "gpu_hours_serving", "moves"):
        assert rows[0][figure] == rows[1][figure]


def test_every_model_gets_the_setting_that_was_chosen(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    got = {}

    class Noting:
        scrape_every_ms = scrape_at_ms = delay_ms = decide_every_ms = 1000.0

        def __init__(self, case: Case, setting: Any) -> None:
            got[case.spec.name] = setting

    monkeypatch.setattr("bench.peers.SCALERS", {"noting": Noting})
    setting = Setting(TINY, plan.full, load_of(TINY, 1), 1)
    make(Variant("noting", "tuned", setting=Knob(0.5)), setting)
    assert got == {"chat": Knob(0.5), "vision": Knob(0.5)}


def test_the_variants_of_a_peer_begin_with_its_own() -> None:
    assert variants_of("hpa")[0] == "default"
    assert variants_of("hpa")[-3:] == ("tuned", "default+shares", "tuned+shares")
