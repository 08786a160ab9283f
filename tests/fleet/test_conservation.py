"""A fleet and its router under arbitrary orders: nothing is lost, doubled or overdrawn."""

import contextlib
from collections import Counter

import numpy as np
import pytest

from libs.common.messages import LoadTime
from libs.fleet.events import FleetError
from libs.fleet.fleet import Fleet
from libs.fleet.router import End, Router
from tests.fleet.worlds import GB, job, model, request, spec, table

START_MS = 1_800_000_000_000.0


class World:
    """Random orders, arrivals and times from a seed, checked after every move."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        backlog = (job("a", step_ms=40, checkpoint_s=0.3), job("b", memory_bytes=50 * GB))
        self.fleet = Fleet(spec(gpus=2, nodes=2, training=backlog), START_MS)
        self.router = Router(self.fleet)
        fast = LoadTime(bytes=GB)  # 0.1 s alone
        self.models = [
            model("chat", 80, 10, load=fast, request_bytes=6 * GB),
            model("pair", 20, 2, load=fast, gpus=2, weights_bytes=60 * GB),
            model("quick", 3, 1, load=fast, objective_ms=60, on_late="reject", request_bytes=1),
        ]
        for one in self.models:
            self.router.register(one)
        self.ends: list[End] = []
        self.log: list[object] = []
        self.sent = 0

    def run(self, moves: int) -> None:
        for tick in range(moves):
            act = self.rng.choice([self.order, self.arrive, self.arrive, self.arrive, self.route])
            act(tick)
            self.check()

    def order(self, _: int) -> None:
        """Load, drain, unload, or set a batch size that may be too large for the memory."""
        names = sorted(self.fleet.replicas)
        kind = self.rng.choice(["load", "load", "load", "drain", "unload", "batch", "batch"])
        if kind == "load" or not names:
            one = self.models[self.rng.integers(3)]
            gpus = [0, 1] if one.gpus == 2 else [int(self.rng.integers(2))]
            with contextlib.suppress(FleetError):
                self.fleet.load(one, f"n-{self.rng.integers(2)}", gpus)
        elif kind == "drain":
            self.fleet.drain(str(self.rng.choice(names)))
        elif kind == "unload":
            self.fleet.unload(str(self.rng.choice(names)))
        else:
            size, wait_ms = int(self.rng.integers(1, 20)), float(self.rng.choice([0, 5, 30]))
            self.fleet.set_batch(str(self.rng.choice(names)), size, wait_ms, self.rng.random())

    def route(self, tick: int) -> None:
        one = self.models[self.rng.integers(3)].name
        names = [n for n in sorted(self.fleet.replicas) if n.startswith(one)]
        routes = [(name, int(self.rng.choice([0, 1, 30, 30]))) for name in names]
        self.router.follow(table(one, *routes, tick=tick))

    def arrive(self, _: int) -> None:
        until_ms = self.fleet.now_ms + float(self.rng.exponential(40))
        arrivals = []
        for _ in range(self.rng.integers(4)):
            of = self.models[self.rng.integers(3)].name
            arrivals.append(request(self.sent, until_ms - float(self.rng.random()) * 20, of))
            self.sent += 1
        self.take(self.router.turn(until_ms, arrivals))

    def take(self, turn: object) -> None:
        self.ends += turn.ends  # type: ignore[attr-defined]
        self.log += turn.events  # type: ignore[attr-defined]

    def check(self) -> None:
        self.fleet.settle()
        for gpu in self.fleet.gpus.values():
            assert 0 <= gpu.allocated_bytes <= gpu.memory_bytes, gpu.device
            held = sum(len(r.queue) + r.running for r in gpu.replicas)
            assert gpu.requests == held, gpu.device
            charged_ms = gpu.serving_ms + gpu.training_ms + gpu.free_ms
            assert charged_ms == pytest.approx(self.fleet.now_ms - START_MS, abs=0.01)
            assert min(gpu.serving_ms, gpu.training_ms, gpu.free_ms) >= 0
            assert gpu.busy_serving_ms <= gpu.serving_ms + 0.01
        for one in self.models:
            open_ = self.router.queued(one.name) + self.router.running(one.name)
            ended = sum(end.request.model == one.name for end in self.ends)
            assert open_ >= 0
            assert ended <= self.sent

    def heal(self) -> None:
        """Give every model a replica that can take everything, and let all end."""
        for name in list(self.fleet.replicas):
            self.fleet.unload(name)
        self.take(self.router.turn(self.fleet.now_ms + 5000))
        for one, node, gpus in zip(
            self.models, ["n-0", "n-1", "n-0"], [[0], [0, 1], [1]], strict=True
        ):
            name = self.fleet.load(one, node, gpus)
            self.router.follow(table(one.name, (name, 10_000), epoch=2))
        self.take(self.router.turn(self.fleet.now_ms + 3_000_000))


@pytest.mark.parametrize("seed", range(25))
def test_every_request_has_one_end_and_every_second_one_charge(seed: int) -> None:
    world = World(seed)
    world.run(300)
    world.heal()
    world.check()
    ended = Counter(end.request.request_id for end in world.ends)
    assert ended == Counter(f"r{number}" for number in range(world.sent))
    assert all(end.status != "rejected" or end.request.model == "quick" for end in world.ends)
    for end in world.ends:
        assert (end.status == "ok") == (
            end.status != "rejected" and end.latency_ms <= end.objective_ms
        )


def test_the_random_worlds_do_meet_what_they_are_to_test() -> None:
    seen: Counter[str] = Counter()
    for seed in range(25):
        world = World(seed)
        world.run(300)
        seen.update(type(event).__name__ for event in world.log)
        seen.update(end.status for end in world.ends)
        seen["oom"] += sum(gpu.out_of_memory for gpu in world.fleet.gpus.values())
    wanted = ("BatchEnded", "Loaded", "HandedBack", "Gone", "StepEnded", "ok", "late", "rejected")
    assert all(seen[kind] > 10 for kind in (*wanted, "oom")), seen


def test_the_same_seed_gives_the_same_events() -> None:
    first, second = World(3), World(3)
    first.run(400)
    second.run(400)
    assert first.log == second.log
    assert first.ends == second.ends
