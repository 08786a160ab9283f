"""A fleet and its router under arbitrary orders: nothing is lost, doubled or overdrawn."""

import contextlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.messages import LoadTime
from libs.fleet.model import FleetError, FleetModel, Gone
from libs.fleet.router import End, Request, Router
from tests.fleet.worlds import GB, job, llm, model, spec, table

START_MS = 1_800_000_000_000.0


class World:
    """Random orders, arrivals and times from a seed, checked after every move."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        backlog = (
            job("a", step_ms=40, checkpoint_s=0.3, checkpoint_every_s=1),
            job("b", memory_bytes=50 * GB),
        )
        self.fleet = FleetModel(
            spec(gpus=2, nodes=2, training=backlog, host_memory_bytes=40 * GB), at_ms=START_MS
        )
        self.router = Router(self.fleet)
        fast = LoadTime(bytes=GB)  # 0.1 s alone
        self.models = [
            model("chat", 80, 10, load=fast, request_bytes=6 * GB),
            model("pair", 20, 2, load=fast, gpus=2, weights_bytes=60 * GB),
            model("quick", 3, 1, load=fast, objective_ms=60, on_late="reject", request_bytes=1),
            llm("talk", load=fast, kv_tokens=600, batch_max=20),
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
        kind = self.rng.choice(
            ["load", "load", "load", "load", "drain", "unload", "batch", "batch", "host", "fault"]
        )
        if kind == "load" or not names:
            one = self.models[self.rng.integers(len(self.models))]
            gpus = [0, 1] if one.gpus == 2 else [int(self.rng.integers(2))]
            with contextlib.suppress(FleetError):
                node = f"n-{self.rng.integers(2)}"
                self.fleet.load(one.name, node, gpus, concurrency=0, batch_size=1)
        elif kind == "drain":
            self.fleet.drain(str(self.rng.choice(names)))
        elif kind == "unload":
            self.fleet.unload(str(self.rng.choice(names)))
        elif kind == "host":
            with contextlib.suppress(FleetError):
                self.fleet.to_host(str(self.rng.choice(names)))
        elif kind == "fault":
            node = f"n-{self.rng.integers(2)}"
            at_ms = self.fleet.now_ms + float(self.rng.exponential(200))
            fault = str(self.rng.choice(["fail", "reclaim"]))
            self.fleet.schedule([(at_ms, fault, node, 0.2), (at_ms + 500, "revive", node, 0)])
        else:
            size, wait_ms = int(self.rng.integers(1, 20)), float(self.rng.choice([0, 5, 30]))
            self.fleet.set_batch(str(self.rng.choice(names)), size, wait_ms, self.rng.random())

    def route(self, tick: int) -> None:
        one = self.models[self.rng.integers(len(self.models))].name
        names = [n for n in sorted(self.fleet.replicas) if n.startswith(one)]
        routes = [(name, int(self.rng.choice([0, 1, 30, 30]))) for name in names]
        self.router.follow(table(one, *routes, tick=tick))

    def arrive(self, _: int) -> None:
        until_ms = self.fleet.now_ms + float(self.rng.exponential(40))
        arrivals = []
        for _ in range(self.rng.integers(4)):
            of = self.models[self.rng.integers(len(self.models))].name
            due_ms = until_ms - float(self.rng.random()) * 20
            tokens = [int(n) for n in self.rng.integers(1, 250, 2)]
            arrivals.append(Request(f"r{self.sent}", of, due_ms, (0, self.sent), *tokens))
            self.sent += 1
        self.take(self.router.turn(until_ms, arrivals))

    def take(self, turn: object) -> None:
        self.ends += turn.ends  # type: ignore[attr-defined]
        self.log += turn.events  # type: ignore[attr-defined]

    def check(self) -> None:
        replicas = self.fleet.replicas.values()
        for device, gpu in self.fleet.gpus.items():
            assert 0 <= gpu.allocated_bytes <= gpu.memory_bytes, device
            charged_ms = gpu.serving_ms + gpu.training_ms + gpu.free_ms
            assert charged_ms == pytest.approx(self.fleet.now_ms - START_MS, abs=0.01)
            assert min(gpu.serving_ms, gpu.training_ms, gpu.free_ms) >= -1e-6
            assert gpu.busy_serving_ms <= gpu.serving_ms + 0.01
            assert gpu.busy_training_ms <= gpu.training_ms + gpu.serving_ms + 0.01
            held = sum(r.held for r in replicas if gpu.gpu in r.gpus and r.node == gpu.node)
            assert self.fleet.accounts()["requests"][self.fleet.gpu_index[device]] == held
        for one in self.models:
            record = self.fleet.models[self.fleet.model_index[one.name]]
            open_ = self.router.queued(one.name) + self.router.running(one.name)
            assert open_ >= 0
            ended = record["ok"] + record["late"] + record["rejected"]
            assert record["arrivals"] == ended + open_
        assert all(0 <= r.kv_tokens_used <= r.kv_tokens for r in replicas)
        assert all(0 <= r.waiting <= r.held for r in replicas)

    def heal(self) -> None:
        """Give every model a replica that can take everything, and let all end."""
        self.take(self.router.turn(self.fleet.now_ms + 5000))  # nodes that failed are back
        for name in list(self.fleet.replicas):
            self.fleet.unload(name)
        self.take(self.router.turn(self.fleet.now_ms + 5000))
        for one, node, gpus in zip(
            self.models,
            ["n-0", "n-1", "n-0", "n-0"],
            [[0], [0, 1], [1], [1]],
            strict=True,
        ):
            name = self.fleet.load(one.name, node, gpus, concurrency=0, batch_size=1)
            self.router.follow(table(one.name, (name, 10_000), epoch=2))
        self.take(self.router.turn(self.fleet.now_ms + 3_000_000))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_every_request_has_one_end_and_every_second_one_charge(seed: int) -> None:
    world = World(seed)
    world.run(300)
    world.heal()
    world.check()
    ended = Counter(end.request.request_id for end in world.ends)
    assert ended == Counter(f"r{number}" for number in range(world.sent))
    assert all(end.status != "rejected" or end.request.model == "quick" for end in world.ends)
    for end in world.ends:
        if end.request.model != "talk":
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
        seen.update(event.reason for event in world.log if isinstance(event, Gone))
        seen["handed back"] += int(world.fleet.models["handed_back"].sum())
        seen["preempted"] += int(world.fleet.models["preemptions"].sum())
        seen["steps"] += int(world.fleet.jobs["steps_kept"].sum())
        seen["rolled back"] += int(world.fleet.jobs["steps_rolled_back"].sum())
        seen["in host"] += sum(r.state == "host" for r in world.fleet.replicas.values())
    wanted = ("Loaded", "Gone", "out of memory", "failed", "ok", "late", "rejected", "steps")
    also = ("handed back", "preempted", "rolled back", "in host")
    assert all(seen[kind] > 5 for kind in (*wanted, *also)), seen


def test_the_same_seed_gives_the_same_events() -> None:
    first, second = World(3), World(3)
    first.run(400)
    second.run(400)
    assert first.log == second.log
    assert first.ends == second.ends
    assert first.fleet.accounts().tobytes() == second.fleet.accounts().tobytes()
    assert first.fleet.requests.tobytes() == second.fleet.requests.tobytes()
