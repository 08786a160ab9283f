"""Seeded load of many bursty clients, its parameters taken from published statistics.

It is synthetic and called so. Sources: ServeGen (alibaba/ServeGen, `data/`: rate and coefficient
of variation, cv, of inter-arrival times of each client and 600 s window) and the Azure LLM trace
of 2023 (Azure/AzurePublicDataset, `AzureLLMInferenceTrace_conv.csv`: lengths in tokens).
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from services.load.core.arrivals import Arrivals


class Clients(NamedTuple):
    """How the users of one model behave, whatever their total rate."""

    number: int
    skew: float  # the k-th largest client's rate is in proportion to k ** -skew
    cv_mean: float  # of inter-arrival times, weighed by rate
    cv_p95: float
    burst: tuple[float, float, float] = (
        0.0,
        0.0,
        1.0,
    )  # from, to (parts of the run), times the rate
    prompt_tokens: tuple[float, float] | None = None  # mean, median; None: it takes no tokens
    output_tokens: tuple[float, float] | None = None


# ServeGen M-large: of 162 clients the largest sends 16 %, the largest ten 63 %; cv 3.45, p95 9.16.
# M-small: 43 clients, 30 % and 93 %; cv 3.58, p95 9.10. mm-image: 35 clients, 14 % and 83 %;
# cv 2.21, p95 6.44. Its busiest 600 s are 3 to 3.3 times the mean (M-large, M-small): the bursts.
M_LARGE = Clients(162, 1.1, 3.45, 9.16)
M_SMALL = Clients(43, 1.5, 3.58, 9.10)
MM_IMAGE = Clients(35, 1.1, 2.21, 6.44)

# Azure 2023 chat: prompts of 1155 tokens in the mean, 1020 in the median; answers of 211 and 129.
CLIENTS: Mapping[str, Clients] = MappingProxyType(
    {
        "chat": M_LARGE._replace(
            burst=(0.25, 0.4, 2.0), prompt_tokens=(1155.0, 1020.0), output_tokens=(211.0, 129.0)
        ),
        "vision": MM_IMAGE._replace(burst=(0.5, 0.65, 3.0)),
        "embed": M_SMALL,
        "rerank": M_SMALL,
    }
)
OTHERS = M_SMALL  # a model that stands in no table


def generate(
    clients: Clients, rate_rps: float, duration_ms: float, rng: np.random.Generator
) -> Arrivals:
    """Draw the arrivals of one model in [0, `duration_ms`), `rate_rps` in the mean.

    Each client is a renewal process with gamma inter-arrival times, in equilibrium from the
    first moment, so that the mean rate holds. A burst bends time for all clients alike.
    """
    shares = np.arange(1, clients.number + 1) ** -clients.skew
    rates_per_ms = rate_rps / 1000 * shares / shares.sum()
    cvs = _draw_cvs(clients, rng)
    even_ms = np.sort(
        np.concatenate(
            [
                _renewals(rate, cv, duration_ms, rng)
                for rate, cv in zip(rates_per_ms, cvs, strict=True)
            ]
        )
    )
    at_ms = _bend(even_ms, clients.burst, duration_ms)
    return Arrivals(
        at_ms,
        _draw_tokens(clients.prompt_tokens, len(at_ms), rng),
        _draw_tokens(clients.output_tokens, len(at_ms), rng),
        label="synthetic",
    )


def count_dispersion(clients: Clients) -> float:
    """Return the variance of a count / its mean, over times much longer than a client's gaps.

    Of a renewal process that is cv^2; of all together the mean of it, weighed by rate.
    """
    mean, sigma = clients.cv_mean, _cv_sigma(clients)
    return mean**2 * float(np.exp(sigma**2))


def _draw_cvs(clients: Clients, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Draw each client's cv, log-normal with the published mean and 95th percentile.

    Above the p95 it is cut, or a large client could be silent for the whole of a short run.
    """
    sigma = _cv_sigma(clients)
    mu = np.log(clients.cv_mean) - sigma**2 / 2
    return np.minimum(rng.lognormal(mu, sigma, clients.number), clients.cv_p95)


def _cv_sigma(clients: Clients) -> float:
    """Return sigma of ln cv, the smaller root.

    ln mean = mu + sigma^2 / 2 and ln p95 = mu + 1.645 sigma.
    """
    z95 = 1.6449
    return float(z95 - np.sqrt(z95**2 - 2 * np.log(clients.cv_p95 / clients.cv_mean)))


def _renewals(
    rate_per_ms: float, cv: float, duration_ms: float, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """Draw a renewal process with gamma gaps of mean 1 / rate and the given cv."""
    shape = cv**-2
    scale_ms = 1 / (rate_per_ms * shape)
    # In equilibrium the first gap is the rest of a length-biased one, or bursts would all
    # begin at 0: length bias adds one to a gamma's shape, and the rest of a gap is uniform in it.
    at_ms = rng.uniform() * rng.gamma(shape + 1, scale_ms, 1)
    while at_ms[-1] < duration_ms:
        gaps_ms = rng.gamma(shape, scale_ms, 256)
        at_ms = np.concatenate([at_ms, at_ms[-1] + np.cumsum(gaps_ms)])
    return at_ms[at_ms < duration_ms]


def _bend(
    even_ms: npt.NDArray[np.float64], burst: tuple[float, float, float], duration_ms: float
) -> npt.NDArray[np.float64]:
    """Move arrivals of an even rate so that the burst has `times` the rate of the rest.

    The inverse of the cumulated rate, which is linear in pieces; the mean stays as it was.
    """
    begin, end, times = burst
    edges = np.array([0.0, begin, end, 1.0])
    cumulated = np.concatenate([[0.0], np.cumsum(np.diff(edges) * [1.0, times, 1.0])])
    bent: npt.NDArray[np.float64] = duration_ms * np.interp(
        even_ms / duration_ms, cumulated / cumulated[-1], edges
    )
    return bent


def _draw_tokens(
    mean_median: tuple[float, float] | None, count: int, rng: np.random.Generator
) -> npt.NDArray[np.int32]:
    """Draw log-normal lengths with the published mean and median, at least one token each."""
    if mean_median is None:
        return np.zeros(count, dtype=np.int32)
    mean, median = mean_median
    sigma = np.sqrt(2 * np.log(mean / median))
    return np.maximum(1, rng.lognormal(np.log(median), sigma, count)).astype(np.int32)
