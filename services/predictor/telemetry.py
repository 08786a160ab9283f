"""What the predictor counts of its own work, for Prometheus."""

from contextlib import suppress
from math import isnan
from typing import get_args

from prometheus_client import Counter, Gauge, Histogram

from libs.common import plimsoll_pb2 as pb
from libs.common.telemetry import Sum
from services.predictor.core.announcements import Outcome
from services.predictor.core.methods import NAMES
from services.predictor.core.partition import Account
from services.predictor.core.residuals import BAND
from services.predictor.core.triggers import KINDS

TICKS = Counter("plimsoll_predictor_ticks_total", "Ticks of collectors taken in")
SAMPLES = Counter("plimsoll_predictor_samples_total", "Values in them")
SKIPPED = Counter(
    "plimsoll_predictor_skipped_total", "Ticks that changed nothing, by reason", ["reason"]
)
FORGOTTEN = Counter(
    "plimsoll_predictor_forgotten_total",
    "Sources that fell silent for good, with all known of them",
)
SERIES = Gauge(
    "plimsoll_predictor_series", "Series that a worker holds, by partition", ["partition"]
)
ARRIVAL_RATE = Gauge("plimsoll_arrival_rate_rps", "Arrival rate now, as estimated", ["model"])
LEAD_TIME = Gauge(
    "plimsoll_forecast_lead_time_seconds", "From a forecast to a replica that serves", ["model"]
)
FORECAST = Gauge(
    "plimsoll_forecast_rps",
    "Quantile of the mean arrival rate over the lead time that begins now",
    ["model", "quantile"],
)
FORECAST_BAND = Gauge(
    "plimsoll_forecast_band_rps",
    "Quantile that was foreseen, a lead time ago, of the mean over the lead time that ends now",
    ["model", "quantile"],
)
FORECAST_CAME = Gauge(
    "plimsoll_forecast_came_rps", "Mean arrival rate over the lead time that ends now", ["model"]
)
FORECAST_JUDGED = Sum(
    "plimsoll_forecast_judged_total", "Forecasts whose lead time has ended, one a second", ["model"]
)
FORECAST_COVERED = Sum(
    "plimsoll_forecast_covered_total",
    "Of the forecasts judged, those at or above what came",
    ["model", "quantile"],
)
FORECAST_ERROR = Sum(
    "plimsoll_forecast_error_rps_total",
    "Sum of |came - foreseen mean| over the forecasts judged",
    ["model"],
)
FORECAST_ACTUAL = Sum(
    "plimsoll_forecast_actual_rps_total", "Sum of what came over the forecasts judged", ["model"]
)
TRIGGERS = Counter(
    "plimsoll_triggers_total",
    "Triggers read, by what became of them; each worker reads all, and those of a day at its start",
    ["outcome"],
)
for _outcome in (*get_args(Outcome), "refused"):
    TRIGGERS.labels(_outcome)
LIFTS_AHEAD = Gauge(
    "plimsoll_lifts_ahead",
    "Lifts of a model's load that are ahead or running: announced, or foreseen as they recur",
    ["model", "origin"],
)
LIFT_GAIN = Gauge(
    "plimsoll_lift_gain_ratio",
    "Part of the lifts announced that came, the median of the last eight; 1 before any",
    ["model", "kind"],
)
FORECAST_LIFT = Gauge(
    "plimsoll_forecast_lift_rps",
    "By how much known lifts raise the mean rate foreseen over the lead time",
    ["model"],
)
FORECAST_METHOD = Gauge(
    "plimsoll_forecast_method_weight_ratio",
    "Part that a method has in the mean foreseen over the lead time",
    ["model", "method"],
)
OF_MODELS = (
    ARRIVAL_RATE,
    LEAD_TIME,
    FORECAST,
    FORECAST_BAND,
    FORECAST_CAME,
    LIFTS_AHEAD,
    LIFT_GAIN,
    FORECAST_LIFT,
    FORECAST_METHOD,
)
SAMPLE_TIMESTAMP = Gauge(
    "plimsoll_sample_timestamp_seconds", "Time of a source's newest sample, since 1970", ["source"]
)
NODE_SCORE = Gauge("plimsoll_node_score_ratio", "Score of a node, lower is idler", ["node"])
NODE_PROFILE = Gauge(
    "plimsoll_node_profile",
    "0: unknown, a day was not seen yet; 1: between; 2: steady, busy at its peak; 3: bursty",
    ["node"],
)
NODE_LOW_HOURS = Gauge(
    "plimsoll_node_low_hours", "Of the next 24 hours, those in which a node was low", ["node"]
)
OF_NODES = (NODE_SCORE, NODE_PROFILE, NODE_LOW_HOURS)
STALENESS = Gauge(
    "plimsoll_predictor_staleness_seconds",
    "Age of the newest sample when the forecasts made of it were sent",
    ["partition"],
)
MISSING = Counter(
    "plimsoll_predictor_offsets_missing_total",
    "Offsets of samples that were never taken in, as the log has no record of them any more",
)
KEPT_TIMESTAMP = Gauge(
    "plimsoll_predictor_kept_timestamp_seconds",
    "When a partition's newest snapshot last held all that was taken, since 1970",
    ["partition"],
)
SNAPSHOT_BYTES = Gauge(
    "plimsoll_predictor_snapshot_bytes", "Size of a partition's newest snapshot", ["partition"]
)
RESTORES = Counter(
    "plimsoll_predictor_restores_total",
    "Partitions taken over, by what was found of their state",
    ["outcome"],
)
for _outcome in ("restored", "none", "unreadable", "other_form", "torn", "other_log"):
    RESTORES.labels(_outcome)
RESTORE = Histogram(
    "plimsoll_predictor_restore_duration_seconds",
    "Time to bring back the state of a partition",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
STEP = Histogram(
    "plimsoll_predictor_step_duration_seconds",
    "Time to take in one tick",
    buckets=(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.4),
)


def show_node(score: pb.NodeScore) -> None:
    """Show what is known of a node."""
    NODE_SCORE.labels(score.node).set(score.score)
    NODE_PROFILE.labels(score.node).set(score.profile)
    NODE_LOW_HOURS.labels(score.node).set(score.low_hours.bit_count())


def show_model(model: str, account: Account) -> None:
    """Show how the forecasts of a model fare; what is not known yet is absent."""
    rows: list[tuple[Gauge, float, tuple[str, ...]]] = [
        (ARRIVAL_RATE, account.arrival_rate_rps, (model,)),
        (LEAD_TIME, account.lead_time_s, (model,)),
        (FORECAST_CAME, account.came_rps, (model,)),
        (FORECAST_LIFT, account.lift_rps, (model,)),
        (LIFTS_AHEAD, account.announced, (model, "announced")),
        (LIFTS_AHEAD, account.foreseen, (model, "foreseen")),
    ]
    FORECAST_JUDGED.reach(account.judged, model)
    FORECAST_ERROR.reach(account.error_rps, model)
    FORECAST_ACTUAL.reach(account.actual_rps, model)
    for at, quantile in enumerate(map(str, BAND)):
        FORECAST_COVERED.reach(account.covered[at], model, quantile)
        rows.append((FORECAST, account.band_rps[at], (model, quantile)))
        rows.append((FORECAST_BAND, account.due_rps[at], (model, quantile)))
    for kind, gain in zip(KINDS, account.gains, strict=True):
        rows.append((LIFT_GAIN, gain, (model, kind)))
    for method, part in zip(NAMES, account.methods, strict=True):
        rows.append((FORECAST_METHOD, part, (model, method)))
    for gauge, value, labels in rows:
        if not isnan(value):
            gauge.labels(*labels).set(value)


def forget_partition(partition: int) -> None:
    """Show no more of a partition that another worker has."""
    for gauge in (SERIES, KEPT_TIMESTAMP, SNAPSHOT_BYTES):
        with suppress(KeyError):
            gauge.remove(partition)
