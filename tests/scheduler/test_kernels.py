"""The arrays of a tick: work that grows with the rows, and none of it twice."""

import time

import numpy as np

from bench.ticks import BEGIN_MS, PERIOD_MS, POLICY, Fleet
from libs.common.messages import BatchLaw
from services.scheduler.core import heart
from services.scheduler.core.contracts import initial_state, past_of, seen_of
from services.scheduler.core.decide import decide
from services.scheduler.core.policy import Policy
from services.scheduler.core.replicas import replicas_of
from services.scheduler.core.warm import warm
from services.scheduler.observation import observe
from tests.scheduler.fleets import GB, a_model
from tests.scheduler.fleets import Fleet as Paper


def test_a_thousand_replicas_are_shared_out_in_a_small_part_of_a_period():
    fleet, state = Fleet(250, 2500), initial_state()
    for tick in range(3):
        now_ms = BEGIN_MS + tick * PERIOD_MS
        fleet.change(tick, now_ms)
        seen = observe(fleet.sources, state, 1, tick, now_ms)
        state = decide(state, seen, POLICY).state
    names, replicas = replicas_of(state, seen)
    assert len(names) >= 1000
    rows, past = seen_of(seen), past_of(state)
    begun = time.thread_time()
    for _ in range(20):
        heart.share(past, rows, replicas, POLICY, False, False)
    # Some 0.2 ms each; in objects it would be tens.
    assert time.thread_time() - begun < 20 * 0.25 * PERIOD_MS / 1000


def test_no_tick_compiles_anything_that_warming_up_has_not():
    warm()
    kernels = (heart.plan, heart.share)
    before = [len(kernel.signatures) for kernel in kernels]
    fleet = Paper(a_model("chat"), a_model("wide", gpus=2, weights_bytes=60 * GB))
    fleet.run(4, {"chat": 300, "wide": 50}, queue_requests=3, slo_ratio_p98=0.9)
    decide(fleet.state, fleet.observe(), Policy(cost_miss=19, util_target=1))
    assert [len(kernel.signatures) for kernel in kernels] == before


def test_what_has_not_changed_is_not_read_again():
    fleet = Paper(a_model())
    fleet.run(4, {"chat": 10})
    seen, again = fleet.observe(), observe(fleet.view, fleet.state, 7, 1, fleet.now_ms)
    assert again.models is seen.models
    assert again.replica_devices is seen.replica_devices
    # A report that is newer counts, and one that differs in nothing else keeps the very names.
    fleet.now_ms += 200
    newer = fleet.observe()
    assert newer.reported_ms.tolist() == [fleet.now_ms] * 8
    assert newer.replicas is seen.replicas
    fleet.view.models["chat"] = a_model(law={"h100": BatchLaw(alpha_ms=10, beta_ms=5)})
    assert fleet.observe().alpha_ms[0, 0] == 10


def test_the_arguments_of_a_decision_are_left_as_they_were():
    fleet = Paper(a_model("chat"), a_model("vision", weights_bytes=4 * GB))
    for tick in range(40):
        fleet.offer("chat", 20 * tick, queue_requests=tick, slo_ratio_p98=tick / 30)
        seen, state = fleet.observe(), fleet.state
        copies = [np.copy(value) for value in (*seen, *state)]
        fleet.step()
        for value, copy in zip((*seen, *state), copies, strict=True):
            np.testing.assert_array_equal(value, copy)
