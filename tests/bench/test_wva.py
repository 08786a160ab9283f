"""WVA by hand: pkg/analyzer/queueanalyzer.go and internal/engines/analyzers/saturation_v2."""

from math import ceil, log

import numpy as np
import pytest

from bench.policies.autoscaler import Engine, Sample
from bench.policies.hpa import Behavior
from bench.policies.queueing import Server, largest_rate_rps, means_ms, server_of
from bench.policies.saturation import Thresholds
from bench.policies.wva import Wva, WvaSetting
from tests.bench.cases import a_case

S = 1000.0


def test_one_at_a_time_is_the_queue_of_the_textbooks() -> None:
    server = Server(60.0, 40.0, 0.0, 0.0, 0.0, 1)  # 100 ms with one, none beside it
    rate = 0.005
    first, _ = means_ms(server, np.array([0.01]), rate)
    # M/M/1 with room for 11: ten times the batch wait, beside the one that runs.
    rho, room = 0.5, 11
    empty = (1 - rho) / (1 - rho ** (room + 1))
    waiting = sum((n - 1) * empty * rho**n for n in range(1, room + 1))
    entering = rate * (1 - empty * rho**room)
    assert first == pytest.approx(waiting / entering + 100)


def test_the_largest_rate_is_the_last_that_meets_both_targets() -> None:
    server = Server(20.0, 1.0, 10.0, 1.0, 10.0, 8)
    n = np.arange(1, 9.0)
    rates = n / (20 + n + 10 * (10 + n))
    for first_ms, later_ms in ((60.0, 100.0), (500.0, 15.0), (60.0, 15.0)):
        grid = np.linspace(1e-3, 0.999, 400) * rates[-1]
        means = [means_ms(server, rates, rate) for rate in grid]
        met = [f <= first_ms and t <= later_ms for f, t in means]
        expected_rps = 1000 * grid[met.index(False) - 1]
        found = largest_rate_rps(server, first_ms, later_ms)
        assert found == pytest.approx(expected_rps, rel=0.03)


def test_where_no_rate_meets_a_target_there_is_none_and_where_all_do_it_is_the_highest() -> None:
    server = Server(20.0, 1.0, 10.0, 1.0, 10.0, 8)
    assert largest_rate_rps(server, 15.0, 100.0) is None
    highest = 8000 / (28 + 10 * 18)
    assert largest_rate_rps(server, 1e9, 1e9) == pytest.approx(0.999 * highest)


def test_a_replica_is_as_load_tests_show_it() -> None:
    # An iteration: 10 + n x (0.1 + 0.0001 x 105.5 + 0.1 x 100 / 11), the own prompt takes 10 more.
    server = server_of(a_case(), 100.0, 11.0)
    each = 0.1 + 0.01055 + 10 / 11
    assert server == pytest.approx(Server(20.0, each, 10.0, each, 10.0, 100))


def a_sample(at_s: float, served: int = 0, came: int = 0) -> Sample:
    return Sample(at_s * S, 0, 0, came, 1, served, 100 * served, 11 * served)


@pytest.mark.parametrize(("rate_of", "rate_rps"), [("served", 200.0), ("arrivals", 500.0)])
def test_the_rate_of_a_minute_is_shared_out_at_the_largest_rate(
    rate_of: str, rate_rps: float
) -> None:
    setting = WvaSetting(rate_of=rate_of, slo_percentile=0.9, behavior=Behavior(up_pods=50))  # type: ignore[arg-type]
    wva = Wva(a_case(), setting)
    for at_s in (0, 15, 30, 45, 60):
        wva.see(a_sample(at_s, 200 * at_s, 500 * at_s))
    margin = -log(0.1)
    most_rps = largest_rate_rps(server_of(a_case(), 100.0, 11.0), 1000 / margin, 0.95 * 20)
    assert most_rps is not None
    wanted = ceil(rate_rps / most_rps)
    assert wanted >= 2
    assert wva.desired(60 * S, 1, 1) == wanted


def test_it_decides_each_minute_and_without_a_rate_as_few_as_may_be() -> None:
    wva = Wva(a_case(), WvaSetting(behavior=Behavior(down_window_ms=0.0)))
    assert wva.desired(15 * S, 3, 3) == 3
    wva.see(a_sample(15))
    wva.see(a_sample(30))
    assert wva.desired(30 * S, 3, 3) == 1
    for at_s in (45, 60, 75):
        wva.see(a_sample(at_s, 1000 * at_s, 1000 * at_s))
    assert wva.desired(75 * S, 1, 1) == 1
    assert wva.desired(90 * S, 1, 1) > 1


def saturated(engines: list[Engine], queue: int, replicas: int) -> int:
    """What is wanted for prompts of 1000 tokens and answers of 200."""
    behavior = Behavior(up_pods=50, down_window_ms=0.0)
    wva = Wva(a_case(), WvaSetting(saturation=Thresholds(), behavior=behavior))
    for at_s, served in ((0, 0), (15, 10)):
        ready = len(engines)
        counted = (served, 1000 * served, 200 * served)
        sample = Sample(at_s * S, queue, 0, 0, ready, *counted, engines=tuple(engines))
        wva.see(sample)
    return wva.desired(15 * S, replicas, len(engines))


@pytest.mark.parametrize(
    ("kv_shares", "waiting", "queue", "replicas", "wanted"),
    [
        # A replica holds min(0.8 x 100,000, 100 answers x 1,100) = 80,000 tokens.
        # (120,000 + 10 x 1,200) / 0.85 is below 160,000, and / 0.7 above it.
        ([0.6, 0.6], 0, 10, 2, 2),
        ([0.7, 0.7], 0, 10, 2, 3),  # 152,000 / 0.85 = 178,824
        ([0.7, 0.7], 0, 10, 3, 3),  # one loads already: 240,000
        ([0.2] * 4, 0, 0, 4, 2),  # 320,000 - 80,000 / 0.7: two and a half to spare
        # A queue of five shows that 30,000 are all it can take: (60,000 + 12,000) / 0.85 over two.
        ([0.3, 0.3], 5, 10, 2, 3),
    ],
)
def test_tokens_asked_for_are_held_against_tokens_that_fit(
    kv_shares: list[float], waiting: int, queue: int, replicas: int, wanted: int
) -> None:
    engines = [Engine(10, waiting, share) for share in kv_shares]
    assert saturated(engines, queue, replicas) == wanted
