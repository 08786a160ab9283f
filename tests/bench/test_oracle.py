"""The bound against brute force, against simulated servers, and in its limits."""

from collections.abc import Iterator

import numpy as np
import pytest

from bench.oracle import (
    BatchType,
    LlmType,
    batch_bound,
    batch_useful_ms,
    burstiness,
    llm_bound,
    llm_useful_ms,
    llm_work,
)
from services.load.core.arrivals import Arrivals, Prefixes

EMBED = BatchType(6.0, 0.8, 64)
VISION = BatchType(20.0, 12.0, 32)
CHAT = LlmType(30.0, 0.0555, 0.205, 1.73e-4)
EIGHT = LlmType(7.8, 0.035, 0.04, 5.9e-5)


def groupings(requests: int) -> Iterator[list[list[int]]]:
    """Every way to part requests into groups."""

    def place(request: int, groups: list[list[int]]) -> Iterator[list[list[int]]]:
        if request == requests:
            yield groups
            return
        for group in groups:
            group.append(request)
            yield from place(request + 1, groups)
            group.pop()
        groups.append([request])
        yield from place(request + 1, groups)
        groups.pop()

    return place(0, [])


def cheapest_ms(at_ms: np.ndarray, types: list[BatchType], latency_ms: float) -> float:
    """The least sum over all groupings that meet every deadline."""

    def cost_ms(group: list[int]) -> float:
        wait_ms = at_ms[group[-1]] - at_ms[group[0]]
        costs = [
            law.alpha_ms + law.beta_ms * len(group) for law in types if len(group) <= law.batch_max
        ]
        return min((cost for cost in costs if wait_ms + cost <= latency_ms), default=np.inf)

    return min(sum(map(cost_ms, groups)) for groups in groupings(len(at_ms)))


@pytest.mark.parametrize("seed", range(60))
def test_no_grouping_is_cheaper_than_the_bound(seed: int) -> None:
    rng = np.random.default_rng(seed)
    alpha_ms, beta_ms = rng.uniform(1, 20), rng.uniform(0.1, 10)
    latency_ms = alpha_ms + beta_ms * rng.uniform(1, 6)
    at_ms = np.sort(rng.uniform(0, latency_ms * rng.uniform(0.3, 3), rng.integers(1, 8)))
    types = [BatchType(alpha_ms, beta_ms, int(rng.integers(1, 7)))]
    if seed % 3 == 0:
        types.append(BatchType(alpha_ms * 2, beta_ms / 2, 6))
    best_ms = cheapest_ms(at_ms, types, latency_ms)
    bound = batch_bound(at_ms, types, latency_ms)
    assert bound.gpu_s * 1e3 <= best_ms * (1 + 1e-9)
    assert bound.gpu_s * 1e3 >= 0.9 * best_ms  # and it is close


def test_a_small_group_around_a_larger_one_is_not_overlooked() -> None:
    # {0, 10} may wait 10 ms, {5, 5, 5} only 1 ms: no grouping in order of arrival is as cheap.
    law, latency_ms = BatchType(50.0, 9.0, 4), 50.0 + 28.0
    at_ms = np.array([0.0, 5.0, 5.0, 5.0, 10.0])
    best_ms = cheapest_ms(at_ms, [law], latency_ms)
    assert best_ms == pytest.approx(2 * 50 + 5 * 9)
    assert batch_bound(at_ms, [law], latency_ms).gpu_s * 1e3 == pytest.approx(best_ms)


def test_one_burst_fills_the_largest_batches_and_far_apart_requests_none() -> None:
    together = batch_bound(np.zeros(100), [VISION], 1000.0)
    assert together.gpu_s * 1e3 == pytest.approx(4 * 20 + 100 * 12)  # 32 + 32 + 32 + 4
    apart = batch_bound(np.arange(100) * 1000.0, [VISION], 1000.0)
    assert apart.gpu_s * 1e3 == pytest.approx(100 * 32)


def test_requests_parts_add_up_and_gpus_multiply() -> None:
    at_ms = np.sort(np.random.default_rng(1).uniform(0, 10_000, 500))
    one, four = (batch_bound(at_ms, [VISION], 400.0, gpus) for gpus in (1, 4))
    assert one.request_gpu_s.sum() == pytest.approx(one.gpu_s)
    assert four.gpu_s == pytest.approx(4 * one.gpu_s)
    assert (one.request_gpu_s * 1e3 >= batch_useful_ms(VISION, 400.0) - 1e-9).all()


def test_more_time_or_another_device_type_never_raises_the_bound() -> None:
    at_ms = np.sort(np.random.default_rng(2).uniform(0, 10_000, 800))
    bounds = [batch_bound(at_ms, [VISION], ms).gpu_s for ms in (40, 80, 160, 320, 640, 5000)]
    assert (np.diff(bounds) <= 1e-9).all()
    both = batch_bound(at_ms, [VISION, BatchType(5.0, 20.0, 8)], 160.0).gpu_s
    assert both <= min(bounds[2], batch_bound(at_ms, [BatchType(5.0, 20.0, 8)], 160.0).gpu_s)


@pytest.mark.parametrize("rate_rps", [3, 30, 300, 3000])
@pytest.mark.parametrize("wait_ms", [0.0, 50.0, 150.0])
def test_no_simulated_batch_server_beats_the_bound(rate_rps: float, wait_ms: float) -> None:
    rng = np.random.default_rng(int(rate_rps))
    at_ms = np.cumsum(rng.exponential(1000 / rate_rps, 2000))
    law, latency_ms = EMBED, 300.0
    # As many servers as are wanted: each batch starts when it is full or its first waited enough.
    busy_ms, served, i = 0.0, [], 0
    while i < len(at_ms):
        size = int(np.searchsorted(at_ms, at_ms[i] + wait_ms, side="right")) - i
        size = min(size, law.batch_max)
        service_ms = law.alpha_ms + law.beta_ms * size
        end_ms = (at_ms[i + size - 1] if size == law.batch_max else at_ms[i] + wait_ms) + service_ms
        assert end_ms <= at_ms[i] + latency_ms
        busy_ms, i = busy_ms + service_ms, i + size
        served.append(size)
    bound = batch_bound(at_ms, [law], latency_ms)
    assert bound.gpu_s * 1e3 <= busy_ms
    assert bound.gpu_s * 1e3 >= len(at_ms) * batch_useful_ms(law, latency_ms) - 1e-6


def test_an_objective_below_the_bare_service_time_is_refused() -> None:
    with pytest.raises(ValueError, match="latency_ms 25 is below the bare service time"):
        batch_bound(np.zeros(1), [VISION], 25.0)
    with pytest.raises(ValueError, match="below the bare service time"):
        batch_useful_ms(VISION, 25.0)
    with pytest.raises(ValueError, match="tpot_ms 20 is below the time of an empty iteration"):
        llm_bound(llm_work(chat(1, 0)), [CHAT], 20.0)


# --- LLMs


def chat(requests: int, seed: int) -> Arrivals:
    rng = np.random.default_rng(seed)
    return Arrivals(
        np.cumsum(rng.exponential(150, requests)),
        rng.integers(1, 3000, requests).astype(np.int32),
        rng.integers(1, 300, requests).astype(np.int32),
    )


def play_ms(arrivals: Arrivals, law: LlmType, longest_ms: float) -> float:
    """Busy time of one replica that serves all, iteration by iteration, none above the limit."""
    prefill = arrivals.prompt_tokens.astype(int).tolist()
    left = arrivals.output_tokens.astype(int).tolist()
    context = arrivals.prompt_tokens.astype(int).tolist()
    now_ms, busy_ms, arrived = 0.0, 0.0, 0
    waiting: list[int] = []
    running: list[int] = []
    while arrived < len(left) or waiting or running:
        while arrived < len(left) and arrivals.at_ms[arrived] <= now_ms:
            waiting.append(arrived)
            arrived += 1
        if not waiting and not running:
            now_ms = float(arrivals.at_ms[arrived])
            continue
        last_ms, decoding = law.base_ms, []
        for request in running:
            step_ms = law.decode_seq_ms + law.kv_token_ms * (context[request] + 1)
            if last_ms + step_ms <= longest_ms:
                last_ms += step_ms
                decoding.append(request)
        room = int((longest_ms - last_ms) / law.prefill_token_ms)
        for request in list(waiting):
            piece = min(room, prefill[request])
            prefill[request] -= piece
            room -= piece
            last_ms += piece * law.prefill_token_ms
            if prefill[request] == 0:
                waiting.remove(request)
                left[request] -= 1
                if left[request] > 0:
                    running.append(request)
            if room == 0:
                break
        for request in decoding:
            context[request] += 1
            left[request] -= 1
            if left[request] == 0:
                running.remove(request)
        assert last_ms <= longest_ms + 1e-9
        now_ms, busy_ms = now_ms + last_ms, busy_ms + last_ms
    return busy_ms


@pytest.mark.parametrize(("law", "tpot_ms"), [(CHAT, 90.0), (EIGHT, 25.0)])
@pytest.mark.parametrize("seed", range(4))
def test_no_simulated_engine_beats_the_bound(law: LlmType, tpot_ms: float, seed: int) -> None:
    arrivals = chat(120, seed)
    bound = llm_bound(llm_work(arrivals), [law], tpot_ms)
    busy_ms = play_ms(arrivals, law, tpot_ms)
    assert bound.gpu_s * 1e3 <= busy_ms
    crowded = arrivals._replace(at_ms=np.zeros(120))
    busy_ms = play_ms(crowded, law, tpot_ms)
    assert bound.gpu_s * 1e3 <= busy_ms <= 1.3 * bound.gpu_s * 1e3  # full iterations come close


def test_a_request_of_one_token_has_no_decode_and_later_ones_read_what_is_before_them() -> None:
    arrivals = Arrivals(np.zeros(2), np.array([100, 100], np.int32), np.array([1, 4], np.int32))
    work = llm_work(arrivals)
    assert work.decodes.tolist() == [0, 3]
    assert work.kv_reads.tolist() == [0, 101 + 102 + 103]
    assert work.prefill_tokens.tolist() == [100, 100]
    bound = llm_bound(work, [LlmType(50.0, 1.0, 0.0, 0.0)], 100.0, gpus=8)
    assert bound.gpu_s == pytest.approx(8 * 200 / (1 - 0.5) / 1e3)


def test_each_distinct_block_of_a_prefix_is_counted_once() -> None:
    prefixes = Prefixes(np.array([0, 2, 4, 5]), np.array([7, 8, 7, 9, 7]), 512)
    arrivals = Arrivals(
        np.zeros(3), np.array([600, 1000, 512], np.int32), np.ones(3, np.int32), prefixes
    )
    assert llm_work(arrivals).prefill_tokens.tolist() == [600, 488, 0]
    without = arrivals._replace(prefixes=None)
    assert llm_work(without).prefill_tokens.tolist() == [600, 1000, 512]


def test_a_better_device_type_lowers_the_bound_and_a_longer_iteration_too() -> None:
    work = llm_work(chat(50, 1))
    one = llm_bound(work, [CHAT], 90.0).gpu_s
    assert llm_bound(work, [CHAT, EIGHT], 90.0).gpu_s <= llm_bound(work, [EIGHT], 90.0).gpu_s < one
    assert llm_bound(work, [CHAT], 120.0).gpu_s < one
    # A type that cannot keep the objective is no help.
    assert llm_bound(work, [CHAT, LlmType(95.0, 0.0, 0.0, 0.0)], 90.0).gpu_s == one


def test_useful_time_is_the_bound_of_the_type_it_is_done_on() -> None:
    work = llm_work(chat(50, 1))
    assert llm_useful_ms(work, CHAT, 90.0).sum() == pytest.approx(
        llm_bound(work, [CHAT], 90.0).gpu_s * 1e3
    )
    assert batch_useful_ms(VISION, 1e4) == pytest.approx(20 / 32 + 12)
    assert batch_useful_ms(VISION, 60.0) == pytest.approx(56 / 3)  # three fit into 60 ms


def test_burstiness_is_the_busiest_ten_seconds_against_the_mean() -> None:
    at_ms = np.array([1_000.0, 12_000.0, 13_000.0, 14_000.0])
    assert burstiness(at_ms, np.ones(4), 0.0, 20_000.0) == pytest.approx(1.5)
    assert burstiness(at_ms[:0], np.ones(0), 0.0, 20_000.0) == 0.0
