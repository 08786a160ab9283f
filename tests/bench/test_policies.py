"""What stands between a policy's rule and the fleet."""

import numpy as np
import pytest

from bench.full import full_replica
from bench.load import load_of
from bench.places import Places, place_of
from bench.policies.autoscaler import Autoscaler, Bounds, Sample, case_of, scale, staying
from bench.policies.clairvoyant import Clairvoyant
from bench.policies.ours import EPOCH_MS, Ours
from bench.policies.policy import NEVER_MS, Setting
from bench.policies.static import Static
from bench.scenario import read_scenario
from bench.sizing import place_first
from libs.fleet.model import FleetModel

TINY = read_scenario("tiny")


@pytest.fixture(scope="module")
def setting() -> Setting:
    load = load_of(TINY, 1)
    full = {spec.name: full_replica(spec, load.arrivals[spec.name]) for spec in TINY.models}
    return Setting(TINY, full, load, 1)


def a_fleet(setting: Setting, **first: int) -> FleetModel:
    fleet = FleetModel(TINY.fleet, TINY.models)
    place_first(fleet, TINY.models, {"chat": 0, "vision": 0, **first})
    fleet.submit(setting.load.requests())
    return fleet


def test_a_replica_gets_gpus_of_its_own_and_a_full_fleet_has_no_place(setting: Setting) -> None:
    fleet = a_fleet(setting, chat=3, vision=5)
    places = [place_of(name) for name in fleet.replicas]
    assert len(set(places)) == 8
    assert Places(fleet).free(TINY.models[0]) is None


def test_those_that_still_load_go_first_then_the_newest(setting: Setting) -> None:
    fleet = a_fleet(setting, chat=2)
    spec, places = TINY.models[0], Places(fleet)
    old = fleet.replicas
    scale(fleet, places, spec, staying(fleet, "chat"), 4, setting.full)
    assert [view.state for view in staying(fleet, "chat")] == ["resident"] * 2 + ["loading"] * 2
    scale(fleet, places, spec, staying(fleet, "chat"), 2, setting.full)
    assert fleet.replicas == old


def test_what_found_no_place_is_tried_again(setting: Setting) -> None:
    fleet = a_fleet(setting, chat=1, vision=7)
    spec, places = TINY.models[0], Places(fleet)
    scale(fleet, places, spec, staying(fleet, "chat"), 3, setting.full)
    assert len(staying(fleet, "chat")) == 1
    fleet.unload(staying(fleet, "vision")[0].name)
    fleet.advance(100)
    scale(fleet, places, spec, staying(fleet, "chat"), 3, setting.full)
    assert len(staying(fleet, "chat")) == 2


def test_static_takes_its_size_and_stays_so(setting: Setting) -> None:
    fleet = a_fleet(setting, chat=1, vision=1)
    static = Static(setting, {"chat": 3, "vision": 2})
    assert static.start(fleet) == NEVER_MS
    fleet.advance(20_000)
    assert [len(staying(fleet, name)) for name in ("chat", "vision")] == [3, 2]


class Notes:
    """A scaler that only notes what it saw and when."""

    scrape_every_ms, scrape_at_ms, delay_ms, decide_every_ms = 1000.0, 400.0, 300.0, 2000.0
    seen: list[tuple[float, float]]

    def __init__(self) -> None:
        self.newest_ms = -1.0
        self.seen = []

    def see(self, sample: Sample) -> None:
        self.newest_ms = sample.at_ms

    def desired(self, now_ms: float, replicas: int, ready: int) -> int:
        self.seen.append((now_ms, self.newest_ms))
        return replicas


def test_a_rule_decides_on_its_beat_and_sees_samples_after_their_delay(setting: Setting) -> None:
    fleet = a_fleet(setting, chat=1, vision=1)
    made: list[Notes] = []

    def make(*_: object) -> Notes:
        made.append(Notes())
        return made[-1]

    policy = Autoscaler(setting, make)
    wake_ms = policy.start(fleet)
    while wake_ms <= 6000:
        fleet.advance(wake_ms)
        wake_ms = policy.wake(fleet)
    # Scraped at 400, 1400, .. and seen 300 ms later: at 2000 the newest is that of 1400.
    assert made[0].seen == [(2000, 1400), (4000, 3400), (6000, 5400)]


def test_the_fleet_and_the_model_bound_a_scaler(setting: Setting) -> None:
    spec = TINY.models[0]
    assert case_of(spec, setting).bounds == Bounds(1, 8)
    assert case_of(spec.model_copy(update={"gpus": 4}), setting).bounds == Bounds(1, 2)
    assert case_of(spec.model_copy(update={"replicas_max": 3}), setting).bounds == Bounds(1, 3)


def play(policy: Ours, fleet: FleetModel, until_ms: float) -> None:
    wake_ms = policy.start(fleet)
    while wake_ms <= until_ms:
        fleet.advance(wake_ms)
        wake_ms = policy.wake(fleet)


def test_orders_of_ours_come_as_late_as_in_the_live_loop(setting: Setting) -> None:
    policy = Ours(setting)
    delays = []
    fleet = a_fleet(setting, chat=1, vision=1)
    policy.start(fleet)
    for _ in range(2000):
        policy._pending.clear()
        policy._decide(fleet, EPOCH_MS)
        delays.append(policy._pending[0][0] - fleet.now_ms)
    assert np.median(delays) == pytest.approx(110, abs=2)
    assert np.quantile(delays, 0.99) == pytest.approx(150, abs=4)


def test_ours_foresees_from_samples_and_the_clairvoyant_knows(setting: Setting) -> None:
    ours, clairvoyant = Ours(setting), Clairvoyant(setting)
    for policy in (ours, clairvoyant):
        play(policy, a_fleet(setting, chat=2, vision=2), 10_000)
    at_ms = setting.load.arrivals["vision"].at_ms
    true_rps = np.sum((at_ms >= 10_000) & (at_ms < 11_000))
    assert clairvoyant.forecasts()["vision"].arrival_rate_rps == pytest.approx(true_rps)
    assert ours.forecasts()["vision"].arrival_rate_rps == pytest.approx(60, rel=0.3)
    known = ours.forecasts()["chat"]
    assert known.output_tokens_mean == pytest.approx(60, rel=0.3)
    # 3 s as declared, more by what loads side by side have shown, and 2.2 s for the decision.
    assert 5200 - 1 < known.lead_time_ms["h100"] <= 8000  # a load as declared may round down
