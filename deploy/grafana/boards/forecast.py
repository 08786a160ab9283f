"""Are the forecasts right, fresh, and as wide as they should be?"""

from deploy.grafana.phrases import MODELS, increase, ratio
from deploy.grafana.vocabulary import ARRIVING, FORESEEN, Board, Panel, Query, Row, Variable

ERROR = "plimsoll_forecast_error_rps_total"
ACTUAL = "plimsoll_forecast_actual_rps_total"
AGE = "time() - max by (source) (plimsoll_sample_timestamp_seconds)"


def coverage(quantile: str, by: str = "") -> str:
    """Return how often what came lay at or below the quantile, over five minutes."""
    where = f'{MODELS}, quantile="{quantile}"'
    return ratio(
        increase("plimsoll_forecast_covered_total", by, where),
        increase("plimsoll_forecast_judged_total", by, MODELS),
    )


def band(metric: str) -> tuple[Query, ...]:
    """Return the three quantiles of a model, the space between median and 0.99 filled."""

    def line(quantile: str) -> str:
        return f'max by (model) ({metric}{{{MODELS}, quantile="{quantile}"}})'

    return (
        Query(line("0.99"), "0.99", FORESEEN, fill_to="0.5"),
        Query(line("0.95"), "0.95", "light-purple", dashed=True),
        Query(line("0.5"), "0.5", FORESEEN),
    )


TRUST = Row(
    "Can they be trusted?",
    4,
    (
        Panel(
            "Error (WAPE)",
            "percentunit",
            (
                Query(
                    ratio(increase(ERROR, "", MODELS), increase(ACTUAL, "", MODELS)), "all models"
                ),
            ),
            shows="How far the foreseen mean rate was from what came, over the chosen models and "
            "the last five minutes.",
            formula="Σ |came − foreseen| ÷ Σ came, of the mean rate over the lead time, one term "
            "a second and model",
            when_red="It is large while load changes faster than it can be foreseen; capacity "
            "is then bought by the upper quantiles, so look at the coverage first.",
            kind="stat",
        ),
        Panel(
            "Coverage of 0.99",
            "percentunit",
            (Query(coverage("0.99"), "all models"),),
            shows="How often what came lay at or below the 0.99 quantile that replicas are bought "
            "for, over the last five minutes.",
            formula="forecasts covered ÷ forecasts judged",
            when_red="The band is too narrow: load does what it has not done before. Expect "
            "bursts above capacity; see which model it is, under *Error and coverage*.",
            kind="stat",
            red_below=0.95,
        ),
        Panel(
            "Age of the oldest source",
            "s",
            (Query(f"max({AGE})", "oldest source"),),
            shows="Since the newest sample of the source that has been silent for longest. Up to "
            "two seconds of it are the scrape.",
            formula="now − time of the newest sample, the largest over the sources",
            when_red="See *Age by source* for its name. `router/…` or `executor/…`: the executor "
            "is away or cannot publish. `host/…` or `disk/…`: the metrics service is.",
            kind="stat",
            red_above=15,
        ),
        Panel(
            "Oldest samples in a forecast",
            "s",
            (Query("max(plimsoll_predictor_staleness_seconds)", "oldest"),),
            shows="How old the newest sample was when the forecast made of it was sent; the "
            "largest over the partitions. It is part of the loop latency.",
            formula="time of sending − time of the newest sample folded in",
            when_red="The predictor falls behind: see its *Lag* on *Bus*. More "
            "predictors share the partitions.",
            kind="stat",
            red_above=1,
        ),
    ),
)

BANDS = Row(
    "Foreseen and came",
    8,
    (
        Panel(
            "What had been foreseen, and what came",
            "reqps",
            (
                *band("plimsoll_forecast_band_rps"),
                Query(f"max by (model) (plimsoll_forecast_came_rps{{{MODELS}}})", "came", ARRIVING),
            ),
            shows="The mean rate that came over the lead time that ends now, over the band that "
            "had been foreseen for it when it began.",
            formula="quantiles 0.5, 0.95 and 0.99 of the forecast of one lead time ago; the mean "
            "rate of arrivals since then",
            when_red="Came above the band often: see *Coverage*. Always far below: the band is "
            "too wide, and GPUs stand by for nothing.",
            wide=6,
        ),
        Panel(
            "What is foreseen now",
            "reqps",
            (
                *band("plimsoll_forecast_rps"),
                Query(
                    f"max by (model) (plimsoll_arrival_rate_rps{{{MODELS}}})",
                    "arriving",
                    ARRIVING,
                ),
            ),
            shows="The mean rate over the lead time from each moment on, beside the rate at that "
            "moment as the predictor estimates it.",
            formula="quantiles 0.5, 0.95 and 0.99 of the newest forecast; the estimated rate",
            when_red="No lines: no samples of this model, or no predictor holds its partition. "
            "The scheduler then holds the model as it is.",
            wide=4,
        ),
        Panel(
            "Lead time",
            "s",
            (
                Query(
                    f"max by (model) (plimsoll_forecast_lead_time_seconds{{{MODELS}}})",
                    "lead time",
                ),
            ),
            shows="From a decision to a resident replica: how far ahead the forecast looks.",
            formula="the load time as measured, or else as registered, and the time to decide",
            when_red="Much longer than the model's load time in models.yaml: loads share the "
            "node's disk, or hang.",
            kind="stat",
            wide=2,
        ),
    ),
    repeat="model",
)

JUDGED = Row(
    "Error and coverage",
    8,
    (
        Panel(
            "Error (WAPE) by model",
            "percentunit",
            (
                Query(
                    ratio(increase(ERROR, "model", MODELS), increase(ACTUAL, "model", MODELS)),
                    "{{model}}",
                ),
            ),
            shows="How far the foreseen mean rate was from what came, over five minutes.",
            formula="Σ |came − foreseen| ÷ Σ came, of the mean rate over the lead time, one term "
            "a second",
            when_red="A model of few requests a second has a large error by chance alone. One "
            "that rises for all: the load has changed its ways.",
        ),
        *(
            Panel(
                f"Coverage of {quantile} by model",
                "percentunit",
                (Query(coverage(quantile, "model"), "{{model}}"),),
                shows=f"How often what came lay at or below the {quantile} quantile, over five "
                f"minutes. It is to be about {100 * float(quantile):.0f} %; five minutes hold "
                "about thirty judgements that do not overlap, so it wanders by some percent.",
                formula="forecasts covered ÷ forecasts judged, by model",
                when_red="The band is too narrow, and replicas are bought too late. It mends "
                "itself within minutes, as the spread is learnt from what came. If it stays, "
                "raise the cost of a miss (`PLIMSOLL_SCHEDULER__MISS_COST`).",
                red_below=red_below,
                axis=(0, 1),
            )
            for quantile, red_below in (("0.95", 0.8), ("0.99", 0.9))
        ),
    ),
)

SOURCES = Row(
    "What they are made of",
    8,
    (
        Panel(
            "Age by source",
            "s",
            (Query(AGE, "{{source}}"),),
            shows="Since the newest sample of each source that was folded in: the partitions of "
            "the router, the executor's nodes, hosts and disks.",
            formula="now − time of the newest sample",
            when_red="A line that rises at one second a second is a source that has gone silent. "
            "After its `next_by` the values are stale, and nothing that needs them shrinks.",
            red_above=15,
        ),
        Panel(
            "Age of the forecasts' samples",
            "s",
            (
                Query(
                    "max by (partition) (plimsoll_predictor_staleness_seconds)",
                    "partition {{partition}}",
                ),
            ),
            shows="How old the newest sample was when the forecasts made of it were sent.",
            formula="time of sending − time of the newest sample folded in, by partition",
            when_red="The predictor falls behind, or its machine is short of CPU.",
            red_above=1,
        ),
        Panel(
            "Node scores",
            "percentunit",
            (Query("max by (node) (plimsoll_node_score_ratio)", "{{node}}"),),
            shows="How busy each node is; the lowest is the first choice for a new replica.",
            formula="0.4 CPU + 0.3 memory + 0.2 disk + 0.1 network, each from 0 to 1",
            when_red="A node without a line has sent no host samples: it is not preferred, and "
            "not excluded either.",
            axis=(0, 1),
        ),
    ),
)

FORECAST = Board(
    "Forecast",
    "Are the forecasts right, and are they fresh?",
    (TRUST, BANDS, JUDGED, SOURCES),
    (Variable("model", "plimsoll_arrivals_total"),),
)
