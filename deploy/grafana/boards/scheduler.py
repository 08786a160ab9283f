"""Is the loop on time, who leads, what does it decide, and is that carried out?"""

from deploy.grafana.boards.loop import LEADERS, LOOP_LATENCY, LOOP_S
from deploy.grafana.phrases import increase, quantile, rate, worst
from deploy.grafana.vocabulary import GOOD, NEUTRAL, RED, Board, Panel, Query, Row, Word

DURATION = "plimsoll_scheduler_tick_duration_seconds"
LATENESS = "plimsoll_scheduler_tick_lateness_seconds"
LOOP = "plimsoll_loop_latency_seconds"
TICK_S = 0.2


def p50_p99(histogram: str) -> tuple[Query, ...]:
    """Return the two lines that tell the usual from the worst."""
    return (
        Query(quantile(0.99, histogram), "p99", "orange"),
        Query(quantile(0.5, histogram), "p50", "blue"),
    )


ON_TIME = Row(
    "Is it on time?",
    4,
    (
        LEADERS,
        Panel(
            "Epoch",
            "none",
            (Query("max(plimsoll_scheduler_epoch)", "epoch"),),
            shows="The number of the present term. A higher one outranks all commands of those "
            "before.",
            formula="offset of the leader's claim on `scheduler.leader`; it grows, not by ones",
            when_red="It grows every few seconds: leaders do not last. See their logs for why "
            "their terms end.",
            kind="stat",
        ),
        Panel(
            "Ticks",
            "cps",
            (Query(rate(f"{DURATION}_count"), "ticks a second"),),
            shows="Decisions taken a second; five with a tick of 200 ms.",
            formula="growth of the count of ticks, a second",
            when_red="Ticks are skipped, or nobody leads: see the two figures on the right, and "
            "*Who leads*.",
            kind="stat",
            red_below=4,
        ),
        Panel(
            "Tick duration, p99",
            "s",
            (Query(worst(quantile(0.99, DURATION)), "p99"),),
            shows="From a tick's observation to its committed transaction. The line is the tick "
            "itself, 200 ms.",
            formula="0.99 quantile over one minute, from buckets",
            when_red="Deciding takes milliseconds, so it is the commit that waits: is the broker "
            "short of CPU or disk?",
            kind="stat",
            red_above=TICK_S,
        ),
        Panel(
            "Lateness, p99",
            "s",
            (Query(worst(quantile(0.99, LATENESS)), "p99"),),
            shows="From a tick's place on the grid to its observation; a wait of up to 80 ms for "
            "forecasts is part of it.",
            formula="0.99 quantile over one minute, from buckets",
            when_red="The tick before took too long, or the process got no CPU.",
            kind="stat",
            red_above=TICK_S,
        ),
        LOOP_LATENCY,
        Panel(
            "Models held",
            "short",
            (Query("sum(max by (model) (plimsoll_held))", "models"),),
            shows="Models whose decisions are held because data is missing: they stay as they "
            "are, and nothing shrinks.",
            formula="sum over the models of: 1 while held",
            when_red="See *Held models* for which, and *Age by source* on *Forecast* for what is "
            "silent.",
            kind="stat",
            red_above=1,
        ),
        Panel(
            "Stale commands",
            "short",
            (Query(f"{increase('plimsoll_commands_stale_total')} or vector(0)", "in 5 min"),),
            shows="Commands and routing tables of a deposed leader that the executor refused, in "
            "the last five minutes. Some when the leader changes is as it should be.",
            formula="growth of the executor's count over five minutes",
            when_red="Without end: two schedulers believe that they lead. End the one with the "
            "lower epoch.",
            kind="stat",
        ),
    ),
)

TIME = Row(
    "Time",
    8,
    (
        Panel(
            "Tick duration",
            "s",
            p50_p99(DURATION),
            shows="From a tick's observation to its committed transaction. The line is the tick "
            "itself, 200 ms.",
            formula="quantiles over one minute, from buckets",
            when_red="Deciding takes milliseconds, so it is the commit that waits: is the broker "
            "short of CPU or disk?",
            red_above=TICK_S,
        ),
        Panel(
            "Tick lateness",
            "s",
            p50_p99(LATENESS),
            shows="From a tick's place on the 200 ms grid to its observation; a wait of up to "
            "80 ms for forecasts is part of it.",
            formula="quantiles over one minute, from buckets",
            when_red="The tick before took too long, or the process got no CPU. About 80 ms all "
            "the time: the forecasts come too late for the tick, see *Forecast*.",
            red_above=TICK_S,
        ),
        Panel(
            "Loop latency",
            "s",
            p50_p99(LOOP),
            shows="From a sample of the router until the executor has the first committed tick "
            "that covers it. The line is 300 ms.",
            formula="quantiles over one minute, from buckets of 10 ms",
            when_red="The two panels on the left say whether it is the tick. If not, see *Age of "
            "the forecasts' samples* on *Forecast*.",
            red_above=LOOP_S,
        ),
    ),
)

LEADING = Row(
    "Who leads",
    5,
    (
        Panel(
            "Who leads",
            "short",
            (Query("max by (instance) (plimsoll_scheduler_leader)", "{{instance}}"),),
            shows="Which scheduler leads, over time. The others follow its tick records, warm.",
            formula="1 while the instance leads",
            when_red="Gray on all lines: nobody leads. A line that ends: that process is gone.",
            kind="states",
            words=(Word(0, "stands by", NEUTRAL), Word(1, "leads", GOOD)),
        ),
        Panel(
            "Held models",
            "short",
            (Query("max by (model) (plimsoll_held)", "{{model}}"),),
            shows="For which models decisions are held because data is missing.",
            formula="1 while held, by model; only the leader says it",
            when_red="See *Age by source* on *Forecast*: which source is silent? The model keeps "
            "what it has until data is back.",
            kind="states",
            words=(Word(0, "decided", GOOD), Word(1, "held", RED)),
        ),
    ),
)

DECISIONS = Row(
    "Decisions",
    8,
    (
        Panel(
            "Decisions by reason",
            "short",
            (
                Query(
                    increase("plimsoll_decisions_total", "action, reason", window="1m"),
                    "{{action}}: {{reason}}",
                ),
            ),
            shows="What was decided in the last minute, by the bound that held. Each is explained "
            "in a sentence on `decisions.explained`, and in `plimsoll top`.",
            formula="growth of the count over one minute, by action and reason",
            when_red="`fleet`: no GPU has room. `replicas_max`: the model's limit. `no_data`: "
            "samples are missing. `memory`: batches are as large as memory allows.",
            stacked=True,
        ),
        Panel(
            "Moves",
            "short",
            (Query(increase("plimsoll_moves_total", "action", window="1m"), "{{action}}"),),
            shows="Replicas ordered to load or to drain in the last minute.",
            formula="growth of the count over one minute, by action",
            when_red="Loads and drains of the same model in turn: capacity is near a target's "
            "edge. A longer `PLIMSOLL_SCHEDULER__SHRINK_HOLD_S` calms it.",
            stacked=True,
        ),
        Panel(
            "Batch sizes",
            "short",
            (Query("max by (model) (plimsoll_batch_size_requests)", "{{model}}"),),
            shows="The largest batch that any replica of the model may take.",
            formula="the least of what memory holds, what keeps p99 within the objective, and "
            "three times what the demand fills",
            when_red="1 under load: memory or a tight objective leaves no more; see the "
            "sentence in `plimsoll top`.",
        ),
        Panel(
            "Theta",
            "percentunit",
            (Query("max by (model) (plimsoll_theta_ratio)", "{{model}}"),),
            shows="The part of the objective that the router lets a prediction fill before it "
            "takes the next replica.",
            formula="each second × 0.9 where p98 of latency ÷ objective is above 0.85, × 1.03 "
            "where it is below 0.7; from 0.1 to 0.85",
            when_red="At 10 %: requests are late although the router leaves much room; the "
            "service times are longer than their law says.",
            axis=(0, 1),
        ),
    ),
)

COMMANDS = Row(
    "Carried out",
    8,
    (
        Panel(
            "Command to acknowledgement",
            "s",
            tuple(
                Query(
                    quantile(q, "plimsoll_command_latency_seconds", "stage", window="5m"),
                    f"{{{{stage}}}} p{round(100 * q)}",
                    dashed=q == 0.5,
                )
                for q in (0.99, 0.5)
            ),
            shows="How long after a command the executor has taken it (accepted), and the effect "
            "holds (done): at once for a batch size, a load time for a replica.",
            formula="quantiles over five minutes, from buckets, by stage; the axis is logarithmic",
            when_red="Accepted above 0.1 s: the executor is behind, see *Lag* on "
            "*Bus*. Done much above the load times: loads wait for the disk, or for drains.",
            log=True,
        ),
        Panel(
            "Commands",
            "cps",
            (Query(rate("plimsoll_commands_total", "topic, status"), "{{topic}} {{status}}"),),
            shows="Commands answered by the executor, by topic and answer.",
            formula="growth of the count, a second",
            when_red="`failed`: the reason is on `commands.acks`; the scheduler tries again "
            "elsewhere after ten seconds.",
        ),
        Panel(
            "Stale commands by topic",
            "cps",
            (
                Query(
                    # One that never was has no series yet, and is to show as 0.
                    f"{rate('plimsoll_commands_stale_total', 'topic')} "
                    f"or 0 * {rate('plimsoll_commands_total', 'topic')}",
                    "{{topic}}",
                ),
            ),
            shows="Commands and routing tables refused because their leader leads no more.",
            formula="growth of the count, a second, by topic",
            when_red="Longer than a moment around a change of leader: two schedulers believe "
            "that they lead.",
        ),
    ),
)

HANDS = Row(
    "Other hands",
    8,
    (
        Panel(
            "Set by hand",
            "short",
            (Query("max(plimsoll_overrides)", "overrides"),),
            shows="Pauses, pins and cordons that people have set and that hold now.",
            formula="count of `operator.overrides` that are not over; only the leader says it",
            when_red="Longer than meant: `plimsoll overrides` says who set what, and until when.",
        ),
        Panel(
            "Not by us",
            "short",
            (
                Query(
                    increase("plimsoll_foreign_changes_total", "model, change", window="5m"),
                    "{{model}} {{change}}",
                ),
            ),
            shows="Replicas that appeared or vanished without an order of the scheduler, in the "
            "last five minutes.",
            formula="growth of the count over five minutes, by model",
            when_red="Appeared: something else scales this model. Vanished: it does, or they died; "
            "`plimsoll explain MODEL` names them.",
        ),
        Panel(
            "In shadow",
            "short",
            (Query("max by (side) (plimsoll_shadow_gpus)", "{{side}}"),),
            shows="In shadow mode, the GPUs that replicas take: those that ran, and those that the "
            "targets would have. Empty where the scheduler is live.",
            formula="replicas × their GPUs, over all models",
            when_red="Wanted above ran: the load is beyond what runs. `plimsoll shadow` adds it up "
            "in GPU-hours and dollars.",
        ),
    ),
)

SCHEDULER = Board(
    "Scheduler",
    "Is the loop on time, who leads, and what does it decide?",
    (ON_TIME, TIME, LEADING, DECISIONS, COMMANDS, HANDS),
)
