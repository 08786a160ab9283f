"""The fleet's model against queues whose waiting is known: formulas, not simulations."""

from math import factorial

import numpy as np
import pytest

from libs.fleet.model import FleetModel
from libs.fleet.requests import Requests
from tests.fleet.worlds import llm, model, spec

N = 200_000


def poisson(rate_per_ms: float, n: int, seed: int) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).exponential(1 / rate_per_ms, n))


def test_one_server_with_constant_service_waits_as_m_d_1() -> None:
    fleet = FleetModel(spec(gpus=1), [model(alpha_ms=0, beta_ms=10)])
    fleet.set_batch(fleet.place("m", "n-0", [0]), 1, 0, 1.0)
    util = 0.7
    due_ms = poisson(util / 10, N, 7)
    fleet.submit(Requests.of(due_ms, np.zeros(N)))
    fleet.advance(due_ms[-1] + 1e5)
    # Pollaczek-Khinchine for constant service: W = s x util / (2 (1 - util)).
    expected_ms = 10 + 10 * util / (2 * (1 - util))
    assert fleet.latency_ms().mean() == pytest.approx(expected_ms, rel=0.02)


@pytest.mark.parametrize("servers", [1, 3])
def test_servers_with_exponential_service_wait_as_m_m_c(servers: int) -> None:
    # An LLM that runs one sequence a replica serves an answer of k tokens in k iterations of 1 ms:
    # geometric lengths with a mean of 200 are as good as exponential.
    law = {"base_ms": 0.9, "prefill_token_ms": 0.1, "decode_seq_ms": 0.1, "kv_token_ms": 0.0}
    served = llm(law=law, kv_tokens=1_000_000, batch_max=1, kv_bytes_per_token=0)
    fleet = FleetModel(spec(gpus=servers), [served])
    for gpu in range(servers):
        # One at a time each: the others wait in one queue at the router.
        fleet.set_concurrency(fleet.place("m", "n-0", [gpu]), 1)
    util, mean_ms = 0.7, 200.0
    rate = util * servers / mean_ms
    due_ms = poisson(rate, N, 11)
    tokens = np.random.default_rng(3).geometric(1 / mean_ms, N)
    fleet.submit(Requests.of(due_ms, np.zeros(N), np.ones(N), tokens))
    fleet.advance(due_ms[-1] + 1e6)
    load = util * servers
    full = load**servers / factorial(servers) / (1 - util)
    erlang_c = full / (sum(load**k / factorial(k) for k in range(servers)) + full)
    expected_ms = mean_ms + erlang_c * mean_ms / (servers * (1 - util))
    assert fleet.latency_ms().mean() == pytest.approx(expected_ms, rel=0.03)


@pytest.mark.parametrize(("batch", "rate"), [(4, 0.05), (4, 0.25), (16, 0.6)])
def test_a_batch_server_waits_as_its_embedded_markov_chain(batch: int, rate: float) -> None:
    alpha_ms, beta_ms = 8.0, 1.0
    fleet = FleetModel(spec(gpus=1), [model(alpha_ms=alpha_ms, beta_ms=beta_ms)])
    fleet.set_batch(fleet.place("m", "n-0", [0]), batch, 0, 1.0)
    due_ms = poisson(rate, N, 5)
    fleet.submit(Requests.of(due_ms, np.zeros(N)))
    fleet.advance(due_ms[-1] + 1e5)
    expected_ms = batch_server_latency_ms(alpha_ms, beta_ms, batch, rate)
    assert fleet.latency_ms().mean() == pytest.approx(expected_ms, rel=0.02)


def batch_server_latency_ms(alpha_ms: float, beta_ms: float, batch: int, rate: float) -> float:
    """The mean latency of a server that takes up to `batch` waiting at once, never idle on purpose.

    The number there at each start of a service is a Markov chain; what a cycle adds to the integral
    of the number in the system follows from it, and Little's law gives the latency.
    """
    states = np.arange(1, 400)
    served = np.minimum(states, batch)
    service_ms = alpha_ms + beta_ms * served
    step = np.zeros((len(states), len(states)))
    for i, (n, k, s) in enumerate(zip(states, served, service_ms, strict=True)):
        arrived = np.exp(
            np.arange(400) * np.log(rate * s)
            - rate * s
            - np.concatenate([[0], np.cumsum(np.log(np.arange(1, 400)))])
        )
        for more, probability in enumerate(arrived):
            # With nobody left the server waits for one: the next service starts with it alone.
            step[i, min(max(n - k + more, 1), len(states)) - 1] += probability
    values, vectors = np.linalg.eig(step.T)
    stationary = np.real(vectors[:, np.argmax(np.real(values))])
    stationary /= stationary.sum()
    empty = np.exp(-rate * service_ms) * (states <= batch)
    cycle_ms = service_ms + empty / rate
    in_system_ms = states * service_ms + rate * service_ms**2 / 2
    return float(stationary @ in_system_ms / (stationary @ cycle_ms) / rate)
