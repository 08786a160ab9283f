"""A peer's counts under our shares: the counts are the peer's, at once, and all else is ours."""

import pytest

from bench.full import full_replica
from bench.load import load_of
from bench.places import place_of
from bench.policies.autoscaler import Sample, staying
from bench.policies.policy import Setting
from bench.policies.shared import Shared
from bench.scenario import read_scenario
from bench.sizing import place_first
from libs.fleet.model import FleetModel

TINY = read_scenario("tiny")


class Steps:
    """A scaler that wants what a table says, whatever it sees."""

    scrape_every_ms, scrape_at_ms, delay_ms, decide_every_ms = 1000.0, 0.0, 0.0, 1000.0

    def see(self, sample: Sample) -> None:
        self.sample = sample

    def desired(self, now_ms: float, replicas: int, ready: int) -> int:
        return 4 if now_ms < 8000 else 1 if now_ms < 12_000 else 3


@pytest.fixture
def setting() -> Setting:
    load = load_of(TINY, 1)
    full = {spec.name: full_replica(spec, load.arrivals[spec.name]) for spec in TINY.models}
    return Setting(TINY, full, load, 1)


def test_counts_are_those_of_the_peer_the_moment_it_decides_up_and_down(setting: Setting) -> None:
    fleet = FleetModel(TINY.fleet, TINY.models)
    place_first(fleet, TINY.models, {"chat": 2, "vision": 1})
    fleet.submit(setting.load.requests())
    policy = Shared(setting, lambda _: Steps())
    wake_ms = policy.start(fleet)
    counts = []
    while wake_ms < 16_000:
        fleet.advance(wake_ms)
        wake_ms = policy.wake(fleet)
        if fleet.now_ms >= 1000:
            wanted = Steps().desired(fleet.now_ms, 0, 0)
            counts.append(len(staying(fleet, "chat")) - wanted)
            places = [
                (node, gpu)
                for name in fleet.replicas
                for node, gpus in [place_of(name)]
                for gpu in gpus
            ]
            assert len(set(places)) == len(places)  # whole GPUs, as the peer has them
    assert len(counts) > 150
    assert not any(counts)


def test_what_the_peer_holds_and_the_load_does_not_need_trains(setting: Setting) -> None:
    trained = []
    for shared in (True, False):
        fleet = FleetModel(TINY.fleet, TINY.models)
        place_first(fleet, TINY.models, {"chat": 4, "vision": 4})  # all eight GPUs
        fleet.submit(setting.load.requests())
        policy = Shared(setting, lambda _: Holds())
        start = policy.start if shared else policy._peer.start
        wake = policy.wake if shared else policy._peer.wake
        wake_ms = start(fleet)
        while wake_ms < 20_000:
            fleet.advance(wake_ms)
            wake_ms = wake(fleet)
        trained.append(fleet.accounts()["training_ms"].sum())
    assert trained[0] > 4 * 20_000 * 0.5  # half of what is held trains, at the least
    assert trained[0] > 2 * trained[1]


class Holds(Steps):
    """One that keeps four of each."""

    def desired(self, now_ms: float, replicas: int, ready: int) -> int:
        return 4
