"""The suite: what it runs, what is believed, and that a bound that is missed is said to be."""

from typing import Any

import pytest

from bench.errors import Errors, believed
from bench.scenario import read_scenario
from bench.suite import chosen_kinds, errors_of, trials, with_load_time
from bench.verdicts import Verdict, of_errors, overall, verdicts
from libs.common.errors import SettingError
from libs.common.messages import BatchLaw
from libs.fleet.model import FleetModel
from libs.fleet.spec import FleetSpec
from tests.bench.test_sentences import row as plain_row


def row(policy: str, attained: float, charge: float, **more: Any) -> dict[str, Any]:
    figures = {"oom_events": 0, "moves": 0, "regret_vs_clairvoyant": 0.1, "regret_vs_oracle": 0.2}
    return plain_row(
        policy, attained, charge, **{**figures, "ttft_ms": {"p50": 300.0, "p99": 500.0}, **more}
    )


def by_name(found: list[Verdict]) -> dict[str, Verdict]:
    return {verdict.name: verdict for verdict in found}


def test_what_is_believed_is_off_by_one_factor_and_the_objective_is_not() -> None:
    spec = read_scenario("smooth").models[1]
    wrong = believed(spec, Errors(law=-0.15, memory=0.2))
    true_law, law = spec.law["h100"], wrong.law["h100"]
    assert isinstance(true_law, BatchLaw)
    assert isinstance(law, BatchLaw)
    assert law.alpha_ms == pytest.approx(0.85 * true_law.alpha_ms)
    assert law.beta_ms == pytest.approx(0.85 * true_law.beta_ms)
    assert wrong.request_bytes == round(1.2 * spec.request_bytes)
    assert wrong.objective == spec.objective
    assert believed(spec, Errors()) == spec


def test_the_load_after_a_longer_warm_up_is_as_long_and_bursts_when_it_did() -> None:
    short = read_scenario("very_bursty")
    long = with_load_time(short, 300)
    assert long.warmup_s == 600
    assert long.duration_s - long.warmup_s == short.duration_s - short.warmup_s
    for model, load in short.load.items():
        before = short.duration_s * load.burst[0] - short.warmup_s
        after = long.duration_s * long.load[model].burst[0] - long.warmup_s
        assert after == pytest.approx(before)


def test_a_router_that_thinks_its_replicas_slow_wakes_the_next_one_earlier() -> None:
    spec = read_scenario("smooth").models[1]
    awake = []
    for belief in (1.0, 2.0):
        fleet = FleetModel(_fleet(), [spec])
        for gpu in range(2):
            name = fleet.place(spec.name, "n-0", [gpu])
            fleet.set_batch(name, 4, 0.0, 1.0)
        fleet.set_theta(spec.name, 0.7)
        fleet.set_belief(spec.name, belief)
        for _ in range(16):
            fleet.enter(spec.name, 0.0)
        fleet.advance(0.0)
        awake.append(sum(fleet.replica(name).held > 0 for name in fleet.replicas))
    assert awake == [1, 2]


def _fleet() -> FleetSpec:
    return FleetSpec.model_validate(
        {
            "device_types": {"h100": {"memory_bytes": 80_000_000_000}},
            "nodes": [{"name": "n", "device_type": "h100", "gpus": 2, "load_bytes_per_s": 1e10}],
        }
    )


def test_each_kind_runs_at_each_load_time_and_once_with_each_error(tmp_path: Any) -> None:
    found = trials(tmp_path, 0.15, 0.2)  # no traces there
    assert [trial.scenario.cold_start_s for trial in found] == [60, 30, 120, 300] * 3
    assert [len(trial.more) for trial in found] == [6, 0, 0, 0] * 3
    assert len({variant.variant for variant in errors_of(0.15, 0.2)}) == 6
    assert errors_of(0.0, 0.0) == ()


def test_a_kind_that_there_is_not_is_refused() -> None:
    with pytest.raises(SettingError, match="no kind 'calm'"):
        chosen_kinds("smooth,calm")
    with pytest.raises(SettingError):
        chosen_kinds("")


def test_the_rival_is_the_cheapest_that_attains_else_the_static_fleet_that_attains_most() -> None:
    ours = row("ours", 0.999, 10)
    static = [row("static", 0.99, 15, variant="n=15"), row("static", 0.994, 40, variant="n=40")]
    hpa = row("hpa", 0.996, 20)
    with_hpa = by_name(verdicts([ours, *static, hpa], "bursty", 8.0))["charge ÷ peer"]
    assert with_hpa.value == 0.5
    assert with_hpa.held
    without = by_name(verdicts([ours, *static], "very bursty", 8.0))["charge ÷ peer"]
    assert without.value == 0.25


def test_a_missed_bound_is_not_held_and_a_figure_without_bound_is_neither() -> None:
    found = by_name(
        verdicts(
            [row("ours", 0.99, 15, oom_events=1), row("static", 1.0, 10), row("oracle", 1.0, 8)],
            "smooth",
            8.0,
        )
    )
    assert found["attainment"].held is False
    assert found["charge ÷ peer"].held is False
    assert found["charge ÷ oracle"].held is False
    assert found["out of memory"].held is False
    assert found["TTFT p50, ms"].held is None
    assert found["training ÷ best with our shares"].held is None  # nobody to compare with


def test_wrong_laws_are_beside_ours_and_the_mean_of_charges_is_geometric() -> None:
    rows = [row("ours", 1.0, 10), row("ours", 0.99, 12, variant="law -15 %")]
    ((name, found),) = of_errors(rows)
    assert name == "law -15 %"
    assert by_name(found)["charge ÷ ours"].value == pytest.approx(1.2)
    assert by_name(found)["attainment"].held is False
    each = [[Verdict("charge ÷ peer", value)] for value in (0.9, 0.4)]
    assert overall(each).value == pytest.approx(0.6)
    assert overall(each).held
