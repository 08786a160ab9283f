"""A replay in steps, as in wall time, gives what one in virtual time gives."""

import numpy as np

from libs.fleet.model import FleetModel
from libs.fleet.requests import Requests
from libs.fleet.router import Request, Router
from tests.fleet.worlds import job, llm, model, spec, table

AT_MS = 1_800_000_000_000.0


def fleet_at(at_ms: float) -> FleetModel:
    fleet = FleetModel(spec(gpus=2, training=(job(),)), [model("a"), llm("b")], at_ms)
    for name in (fleet.place("a", "n-0", [0]), fleet.place("b", "n-0", [1])):
        fleet.set_batch(name, 8, 2.0, 0.8)
    return fleet


def test_turns_of_a_few_milliseconds_give_the_same_counts_as_one_run() -> None:
    rng = np.random.default_rng(3)
    # Two things at the very same moment would be one turn here, and two there: so none are.
    due_ms = np.sort(rng.uniform(0, 30_000, 2000))
    of = rng.integers(0, 2, 2000)
    prompt, output = rng.integers(1, 800, 2000), rng.integers(1, 80, 2000)
    virtual = fleet_at(0.0)
    virtual.submit(Requests.of(due_ms, of, prompt, output))
    virtual.advance(60_000)

    wall = fleet_at(AT_MS)
    router = Router(wall)
    ends = []
    for i, due in enumerate(due_ms):
        for at_ms in np.arange(wall.now_ms + 5, AT_MS + due, 5):
            ends += router.turn(at_ms).ends
        tokens = (int(prompt[i]), int(output[i]))
        request = Request(f"r{i}", "ab"[of[i]], AT_MS + due, (0, i), *tokens)
        ends += router.turn(AT_MS + due, [request]).ends
    ends += router.turn(AT_MS + 60_000).ends
    counts = ["arrivals", "ok", "late", "rejected", "output_tokens", "queue", "in_flight"]
    assert wall.models[counts].tolist() == virtual.models[counts].tolist()
    assert wall.laws["iterations"].tolist() == virtual.laws["iterations"].tolist()
    assert wall.jobs.tolist() == virtual.jobs.tolist()
    latency_ms = np.zeros(2000)
    for end in ends:
        latency_ms[end.request.place[1]] = end.latency_ms
    assert np.allclose(latency_ms, virtual.latency_ms(), atol=1e-3)


def test_rows_are_used_again_and_each_request_gets_its_own_end() -> None:
    fleet = FleetModel(spec(gpus=1), [model()])
    router = Router(fleet)
    router.follow(table("m", (fleet.place("m", "n-0", [0]), 100)))
    seen = []
    for number in range(5000):
        at_ms = number * 20.0
        seen += router.turn(at_ms, [Request(f"r{number}", "m", at_ms, (0, number))]).ends
    seen += router.turn(200_000.0).ends
    assert [end.request.request_id for end in seen] == [f"r{number}" for number in range(5000)]
    assert len(fleet.requests) < 100
