"""Are the forecasts right, fresh, and as wide as they should be?"""

from deploy.grafana.phrases import MODELS, increase, ratio
from deploy.grafana.vocabulary import (
    ARRIVING,
    FORESEEN,
    NEUTRAL,
    Board,
    Panel,
    Query,
    Row,
    Variable,
    Word,
)

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
            formula="what nine loads in ten took at most, of the last twenty and the registry's "
            "figure, and the time to decide",
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
            "Methods",
            "percentunit",
            (
                Query(
                    f"avg by (method) (plimsoll_forecast_method_weight_ratio{{{MODELS}}})",
                    "{{method}}",
                ),
            ),
            shows="Which methods carry the mean foreseen over the lead time, over the models "
            "chosen: the last value, levels that look back 2, 20 and 200 s, a trend, and tables "
            "of a season found, of the day and of the week.",
            formula="the mean of the methods' weights over the models; they move with the "
            "errors of late, and make up 100 %",
            when_red="The last value or 2 s carry most: nothing foretells this load, and bands "
            "are wide. A season that you know of has no part: it is longer than 7.5 minutes and "
            "neither a day nor a week, or too weak.",
            axis=(0, 1),
        ),
    ),
)

KEPT = Row(
    "What a successor would find",
    8,
    (
        Panel(
            "Age of the snapshots",
            "s",
            (
                Query(
                    "time() - max by (partition) (plimsoll_predictor_kept_timestamp_seconds)",
                    "partition {{partition}}",
                ),
            ),
            shows="Since the newest snapshot of each partition held all that had been taken: so "
            "much is read again by whoever takes the partition over.",
            formula="now − when nothing was left to be written, by partition",
            when_red="Snapshots cannot be written: the predictor's log says why. Nothing is lost "
            "as long as the samples are still on the bus, an hour.",
            red_above=60,
        ),
        Panel(
            "Size of the snapshots",
            "bytes",
            (
                Query(
                    "max by (partition) (plimsoll_predictor_snapshot_bytes)",
                    "partition {{partition}}",
                ),
            ),
            shows="The state of each partition, compressed, as it is written each second or so.",
            formula="bytes of the newest snapshot, by partition",
            when_red="It follows the series and models that a partition has. Where it makes the "
            "bus too busy, raise `PLIMSOLL_PREDICTOR__SNAPSHOT_MS`.",
        ),
        Panel(
            "Partitions taken over",
            "none",
            (
                Query(
                    "sum by (outcome) (increase(plimsoll_predictor_restores_total[5m]))",
                    "{{outcome}}",
                ),
            ),
            shows="What workers found when they took over a partition: its state, none, or a "
            "snapshot that they could not use.",
            formula="take-overs in 5 min, by what was found",
            when_red="`torn`, `unreadable`, `other_form` or `other_log`: the worker began anew, "
            "as its log says in a line.",
        ),
        Panel(
            "Samples missed",
            "none",
            (Query("sum(increase(plimsoll_predictor_offsets_missing_total[5m]))", "missing"),),
            shows="Offsets of `metrics.samples` that a worker was never handed.",
            formula="offsets missing between two records, in 5 min",
            when_red="The predictor was away for longer than samples are kept, or offsets were "
            "moved by hand. Counters make up for it, levels do not.",
            red_above=1,
        ),
    ),
)

AHEAD = Row(
    "Known ahead",
    8,
    (
        Panel(
            "Lifts ahead",
            "none",
            (
                Query(
                    f"max by (model, origin) (plimsoll_lifts_ahead{{{MODELS}}})",
                    "{{model}} {{origin}}",
                ),
            ),
            shows="Rises of a model's load that are ahead or running: announced on "
            "`load.triggers`, or foreseen because they came three times at equal distances.",
            formula="lifts that are not over, by model and origin",
            when_red="One that you announced is not there: see *Triggers*. One foreseen that will "
            "not come: it is dropped when it failed to come twice.",
        ),
        Panel(
            "What they add",
            "reqps",
            (
                Query(
                    f"max by (model) (plimsoll_forecast_lift_rps{{{MODELS}}})",
                    "{{model}}",
                    FORESEEN,
                ),
            ),
            shows="By how much lifts raise the mean rate that is foreseen over the lead time. It "
            "begins a lead time before a lift does, and ends when the load itself has risen.",
            formula="mean foreseen with lifts − mean foreseen without, over the lead time",
            when_red="0 while a lift is near: the load is already as high as was said, or of what "
            "was said nothing came the last times.",
        ),
        Panel(
            "What came of what was said",
            "percentunit",
            (
                Query(
                    f"max by (model, kind) (plimsoll_lift_gain_ratio{{{MODELS}}})",
                    "{{model}} {{kind}}",
                ),
            ),
            shows="Which part of the rises that were announced has come, by kind of trigger. 100 % "
            "before any was judged. Forecasts count it in.",
            formula="median over the last eight of (came − foreseen without) ÷ (said − foreseen "
            "without), from 0 to 3",
            when_red="Far below 100 %: whoever sends this kind exaggerates, or its time is wrong. "
            "Far above: say more.",
            red_below=0.3,
        ),
        Panel(
            "Triggers",
            "none",
            (Query("max by (outcome) (increase(plimsoll_triggers_total[5m]))", "{{outcome}}"),),
            shows="Triggers read within five minutes, by what became of them.",
            formula="increase of the worker that read the most: each reads all, and those of the "
            "last day when it starts",
            when_red="refused: it cannot be true, and lies on `dead.letters` with its reason. "
            "unknown_model: nobody has registered it (yet). crowded_out: too many wait for one "
            "model. late: said after it began.",
        ),
    ),
)

NODES = Row(
    "Nodes",
    8,
    (
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
        Panel(
            "Profile",
            "none",
            (Query("max by (node) (plimsoll_node_profile)", "{{node}}"),),
            shows="What kind of load a node bears: steady (its busiest minute of the last day is "
            "at 85 % or more: reserve it), bursty (40 % or less: have it on demand), or between.",
            formula="the largest minute's mean of the last 24 hours, of the busiest of CPU, "
            "memory, disk and network",
            when_red="unknown: fewer than 18 hours of a day were seen.",
            kind="states",
            words=(
                Word(0, "unknown", NEUTRAL),
                Word(1, "between", "blue"),
                Word(2, "steady", "purple"),
                Word(3, "bursty", "orange"),
            ),
        ),
        Panel(
            "Low hours ahead",
            "none",
            (Query("max by (node) (plimsoll_node_low_hours)", "{{node}}"),),
            shows="In how many of the next 24 hours the node was low on the days before: time for "
            "batch work and maintenance. Which ones: `low_hours` on `node.scores`.",
            formula="hours of the day whose mean share, over days, is 40 % or less",
            when_red="0 for all nodes after a day: there is no quiet hour left.",
            axis=(0, 24),
        ),
    ),
)

FORECAST = Board(
    "Forecast",
    "Are the forecasts right, and are they fresh?",
    (TRUST, BANDS, AHEAD, JUDGED, SOURCES, KEPT, NODES),
    (Variable("model", "plimsoll_arrivals_total"),),
)
