"""What is published of the models of a source: its forecasts, with what is known ahead in them."""

from math import isnan

import numpy as np

from libs.common import plimsoll_pb2 as pb
from services.predictor.core import fold, lifts
from services.predictor.core import source as sources
from services.predictor.core.columns import Floats
from services.predictor.core.residuals import QUANTILES
from services.predictor.core.source import Policy, Source
from services.predictor.core.triggers import KINDS, Lift

# The optional fields of a forecast, in the order of `fold.foresee`.
NOW = (
    "arrival_rate_rps",
    "dispersion",
    "queue_requests",
    "in_flight_requests",
    "slo_ratio_p98",
    "prompt_tokens_mean",
    "output_tokens_mean",
    "recent_wape",
    "recent_coverage_p95",
)

RANKS = lifts.ranks(QUANTILES)


def tell(message: pb.LoadForecasts, source: Source, said: set[str], policy: Policy) -> None:
    """Add the forecasts of one source's models to a message, but of those `said` before."""
    of_models, of_pairs = sources.foresee(source, policy)
    counted = count_in(source, of_models)
    told: list[pb.LoadForecast | None] = []
    leads = source.models["lead_s"].tolist()
    for name, row, lead_s in zip(source.columns.models, of_models.tolist(), leads, strict=True):
        if name in said:
            told.append(None)
            continue
        said.add(name)
        known = {field: value for field, value in zip(NOW, row, strict=False) if value == value}
        forecast = message.forecasts.add(
            model=name,
            at_ms=source.at_ms,
            newest_sample_ms=source.at_ms,
            next_by_ms=source.next_by_ms,
            **known,
        )
        if "arrival_rate_rps" in known:
            _add_horizons(forecast, row, lead_s)
        for lift in counted.get(name, ()):
            forecast.lifts.add(
                kind=KINDS[lift.kind],
                at_ms=lift.at_ms,
                until_ms=lift.until_ms,
                announced=lift.announced,
            )
        told.append(forecast)
    models = source.columns.of_pair["model"].tolist()
    pairs = zip(source.columns.pairs, models, of_pairs.tolist(), strict=True)
    for (_, device_type), at, figures in pairs:
        if (forecast := told[at]) is not None:
            _add_law(forecast, device_type, figures)


def _add_horizons(forecast: pb.LoadForecast, row: list[float], lead_s: float) -> None:
    """Add the published horizons, and what is foreseen at each."""
    horizons_ms = published_ms(lead_s)
    count = len(horizons_ms)
    quantiles = count * len(QUANTILES)
    forecast.horizon_ms.extend(horizons_ms)
    forecast.mean_rps.extend(row[fold.NOW : fold.NOW + count])
    forecast.quantile_rps.extend(row[fold.MEANS : fold.MEANS + quantiles])
    peaks = fold.MEANS + fold.BAND
    forecast.peak_10s_quantile_rps.extend(row[peaks : peaks + quantiles])


def published_ms(lead_s: float) -> list[int]:
    """Return the published horizons, rising and distinct.

    The lead time is one where it is known, and not 5 s itself.
    """
    horizons_ms = [200, 1000, 5000]
    if lead_s > 5:  # not NaN
        horizons_ms.append(int(lead_s) * 1000)
    return horizons_ms


def count_in(source: Source, said: Floats) -> dict[str, list[Lift]]:
    """Raise what is foreseen by what is known ahead, in place; return the lifts, by model."""
    row = {name: at for at, name in enumerate(source.columns.models)} if source.plans else {}
    counted: dict[str, list[Lift]] = {}
    for name, plan in source.plans.items():
        now = said[row[name]]
        horizons_ms = published_ms(float(source.models["lead_s"][row[name]]))
        coming = lifts.ahead(plan, source.at_ms, horizons_ms[-1])
        if not coming or isnan(now[0]):
            continue
        count = len(horizons_ms)
        band, shape = count * len(QUANTILES), (count, len(QUANTILES))
        lifts.count_in(
            lifts.table(coming, source.at_ms),
            plan.gains,
            RANKS,
            np.array(horizons_ms, dtype=np.float64),
            now[fold.NOW : fold.NOW + count],
            now[fold.MEANS : fold.MEANS + band].reshape(shape),
            now[fold.MEANS + fold.BAND :][:band].reshape(shape),
        )
        counted[name] = coming
    return counted


def _add_law(forecast: pb.LoadForecast, device_type: str, figures: list[float]) -> None:
    lead_ms, alpha_ms, beta_ms, batches = figures
    if not isnan(lead_ms):
        forecast.lead_time_ms[device_type] = lead_ms
    if not isnan(beta_ms):
        law = forecast.law[device_type]
        law.alpha_ms, law.beta_ms, law.batches = alpha_ms, beta_ms, int(batches)
