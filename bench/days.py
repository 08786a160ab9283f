"""A load with days: its rate by the hour, the minutes before a run, and arrivals that follow it.

Synthetic. The shape of a day, and how far single days are from it, are fitted to two weeks of
ServeGen (`bench.fit.days`, `bench/laws.yaml`); below ten minutes the clients are as bursty as they
are without days. Hour 0 is where the published record begins.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from bench.scenario import DaysSpec
from libs.fleet.requests import Floats
from services.load.core.synthetic import Clients, count_dispersion

DAY = 24 * 60  # minutes
STEP = 10  # minutes, of the published rates
MINUTE_MS = 60_000.0


class Noise(NamedTuple):
    """A first-order autoregression."""

    sd: float
    correlation: float  # of two that follow each other


class Profile(NamedTuple):
    """ln(rate) over a day, and how days and their parts differ from it."""

    harmonics: tuple[float, ...]  # cosine and sine of the day, of half a day, ..
    of_days: Noise
    within_days: Noise  # of ten minutes


PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "m_small": Profile(
            (-0.06337, -0.2173, 0.06203, -0.186, -0.01013, -0.03641, -0.06079, -0.03294),
            Noise(0.1456, 0.6721),
            Noise(0.1736, 0.7986),
        ),
        "m_large": Profile(
            (0.01577, -0.1371, 0.05017, -0.001945, -0.03176, 0.02346, 0.002355, -0.04047),
            Noise(0.2733, 0.3436),
            Noise(0.2938, 0.8395),
        ),
    }
)


class Days(NamedTuple):
    """A rate that goes with the day, 1 in the mean of many days; a value a minute."""

    before: Floats  # of the history
    played: Floats  # from the beginning of the run, a minute more than it has

    def past_rps(self, clients: Clients, rate_rps: float, rng: np.random.Generator) -> Floats:
        """Draw what was counted in each minute of the history, as a rate.

        Counts of many renewals have the variance of a Poisson process times the mean of cv^2.
        """
        mean = 60 * rate_rps * self.before
        counts = rng.normal(mean, np.sqrt(mean * count_dispersion(clients)))
        return np.asarray(np.maximum(counts, 0.0) / 60)

    def bend(self, even_ms: Floats, duration_ms: float) -> Floats:
        """Move arrivals of an even rate so that they come as the day has them; none is added."""
        edges_ms = MINUTE_MS * np.arange(len(self.played))
        between = (self.played[1:] + self.played[:-1]) / 2
        cumulated = np.concatenate([[0.0], np.cumsum(between)])
        end = np.interp(duration_ms, edges_ms, cumulated)
        return np.asarray(np.interp(even_ms / duration_ms * end, cumulated, edges_ms))

    def mean(self, duration_ms: float) -> float:
        """Return the mean of what is played."""
        edges_ms = MINUTE_MS * np.arange(len(self.played))
        grid_ms = np.linspace(0, duration_ms, 10_000)
        return float(np.interp(grid_ms, edges_ms, self.played).mean())


def draw_days(spec: DaysSpec, duration_ms: float, rng: np.random.Generator) -> Days:
    """Draw the days of a load; history and run are one path, so the run goes on where it ended."""
    profile = PROFILES[spec.profile]
    past = DAY * spec.history_days
    count = past + int(duration_ms // MINUTE_MS) + 2
    begins = round(60 * spec.begins_h) - past
    logs = np.log(shape(profile)[(begins + np.arange(count)) % DAY])
    for noise, step in ((profile.of_days, DAY), (profile.within_days, STEP)):
        # In the mean of exp(noise) there is half its variance.
        logs += _path(noise, step, count, rng) - noise.sd**2 / 2
    rates = np.exp(logs)
    return Days(rates[:past], rates[past:])


def shape(profile: Profile) -> Floats:
    """Return the rate of each minute of a day, 1 in the mean."""
    turn = 2 * np.pi * np.arange(DAY) / DAY
    multiples = range(1, len(profile.harmonics) // 2 + 1)
    waves = [wave(k * turn) for k in multiples for wave in (np.cos, np.sin)]
    rate = np.exp(np.array(profile.harmonics) @ np.array(waves))
    return np.asarray(rate / rate.mean())


def _path(noise: Noise, step: int, count: int, rng: np.random.Generator) -> Floats:
    """Draw a noise with a value each `step` minutes, straight between them."""
    values = rng.normal(0.0, noise.sd, count // step + 2)
    values[1:] *= np.sqrt(1 - noise.correlation**2)
    for i in range(1, len(values)):
        values[i] += noise.correlation * values[i - 1]
    return np.interp(np.arange(count), step * np.arange(len(values)), values)
