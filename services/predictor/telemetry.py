"""What the predictor counts of its own work, for Prometheus."""

from prometheus_client import Counter, Gauge, Histogram

TICKS = Counter("plimsoll_predictor_ticks_total", "Ticks of collectors taken in")
SAMPLES = Counter("plimsoll_predictor_samples_total", "Values in them")
SKIPPED = Counter(
    "plimsoll_predictor_skipped_total", "Ticks that changed nothing, by reason", ["reason"]
)
SERIES = Gauge(
    "plimsoll_predictor_series", "Series that a worker holds, by partition", ["partition"]
)
FORECAST_ERROR = Gauge(
    "plimsoll_forecast_error_ratio",
    "Sum of |came - foreseen| / sum of what came, over the lead time, since the start",
    ["model"],
)
FORECAST_MATURED = Gauge(
    "plimsoll_forecast_matured_rps",
    "The sum of what came that forecast_error_ratio is of: its weight among models",
    ["model"],
)
STALENESS = Gauge(
    "plimsoll_predictor_staleness_seconds",
    "Age of the newest sample when the forecasts made of it were sent",
    ["partition"],
)
STEP = Histogram(
    "plimsoll_predictor_step_duration_seconds",
    "Time to take in one tick",
    buckets=(0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.4),
)
