import numpy as np
import pytest

from services.load.core.synthetic import CLIENTS, M_LARGE, Clients, generate

MINUTE_MS = 60_000.0
SMOOTH = Clients(5, 1.0, 1.01, 1.02)


def test_the_same_seed_makes_the_same_load() -> None:
    one, two = (
        generate(CLIENTS["chat"], 6.0, 2 * MINUTE_MS, np.random.default_rng(3)) for _ in range(2)
    )
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_another_seed_makes_another_load() -> None:
    one, two = (
        generate(CLIENTS["chat"], 6.0, 2 * MINUTE_MS, np.random.default_rng(seed))
        for seed in (3, 4)
    )
    assert one.at_ms[:5].tolist() != two.at_ms[:5].tolist()


@pytest.mark.parametrize("model", sorted(CLIENTS))
def test_the_mean_rate_holds_over_seeds(model: str) -> None:
    counts = [
        len(generate(CLIENTS[model], 20.0, 2 * MINUTE_MS, np.random.default_rng(seed)).at_ms)
        for seed in range(60)
    ]
    assert np.mean(counts) == pytest.approx(2400, rel=0.1)


def test_arrivals_are_in_order_and_within_the_run() -> None:
    at_ms = generate(CLIENTS["vision"], 25.0, MINUTE_MS, np.random.default_rng(0)).at_ms
    assert (np.diff(at_ms) >= 0).all()
    assert at_ms[0] >= 0
    assert at_ms[-1] < MINUTE_MS


def test_many_bursty_clients_together_are_still_bursty() -> None:
    at_ms = generate(M_LARGE, 50.0, 10 * MINUTE_MS, np.random.default_rng(5)).at_ms
    per_second, _ = np.histogram(at_ms, bins=600)
    # 1 would be Poisson; 162 independent clients of cv 3.45 stay well above it.
    assert per_second.var() / per_second.mean() > 2
    gaps_ms = np.diff(at_ms)
    assert gaps_ms.std() / gaps_ms.mean() > 1.2


def test_smooth_clients_together_are_poisson() -> None:
    at_ms = generate(SMOOTH, 50.0, 10 * MINUTE_MS, np.random.default_rng(5)).at_ms
    per_second, _ = np.histogram(at_ms, bins=600)
    assert per_second.var() / per_second.mean() == pytest.approx(1, abs=0.25)


def test_a_burst_has_its_times_the_rate_of_the_rest_and_leaves_the_mean() -> None:
    bursty = SMOOTH._replace(burst=(0.5, 0.75, 4.0))
    at_ms = generate(bursty, 100.0, 10 * MINUTE_MS, np.random.default_rng(2)).at_ms
    counts, _ = np.histogram(at_ms, bins=4, range=(0, 10 * MINUTE_MS))
    assert len(at_ms) == pytest.approx(60_000, rel=0.03)
    assert counts[2] / counts[[0, 1, 3]].mean() == pytest.approx(4, rel=0.05)


def test_chat_has_lengths_as_published_and_embeddings_have_none() -> None:
    chat = generate(CLIENTS["chat"], 50.0, 10 * MINUTE_MS, np.random.default_rng(1))
    assert chat.prompt_tokens.mean() == pytest.approx(1155, rel=0.05)
    assert np.median(chat.prompt_tokens) == pytest.approx(1020, rel=0.05)
    assert chat.output_tokens.mean() == pytest.approx(211, rel=0.08)
    assert chat.output_tokens.min() >= 1
    embed = generate(CLIENTS["embed"], 5.0, MINUTE_MS, np.random.default_rng(1))
    assert not embed.prompt_tokens.any()
