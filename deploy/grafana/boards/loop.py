"""What tells at a glance that all is well: figures on the home and on one other board."""

from deploy.grafana.phrases import increase, quantile, worst
from deploy.grafana.vocabulary import GOOD, RED, Panel, Query, Word

LOOP_S = 0.3

OUT_OF_MEMORY = Panel(
    "Out of memory",
    "short",
    (Query(increase("plimsoll_oom_total", window="$__range"), "in the time shown"),),
    shows="Replicas killed by an allocation above their GPU's capacity, in the time shown. "
    "It is to be 0, always.",
    formula="growth of the count over the time range of the board",
    when_red="A model needs more memory than its entry in models.yaml says. Find the GPU "
    "by *Memory used* on *Fleet*, correct `activation_bytes` or `request_bytes`, "
    "and register the model with `plimsoll init`.",
    kind="stat",
    red_above=1,
)

LEADERS = Panel(
    "Leaders",
    "short",
    (Query("sum(plimsoll_scheduler_leader) or vector(0)", "leaders"),),
    shows="Schedulers that lead. It is to be one; none for about a second when a leader dies.",
    formula="sum over the schedulers of: 1 while it leads",
    when_red="None: are the schedulers up, and do they reach the broker? Requests are "
    "served all the same, with the last routing table. Two for longer than a scrape: one "
    "is cut off from the broker and fenced; its commands are refused (*Stale commands* on "
    "*Scheduler*).",
    kind="stat",
    red_below=1,
    red_above=2,
    words=(Word(0, "none", RED), Word(1, "one", GOOD), Word(2, "two", RED)),
)

LOOP_LATENCY = Panel(
    "Loop latency, p99",
    "s",
    (Query(worst(quantile(0.99, "plimsoll_loop_latency_seconds")), "p99"),),
    shows="How old the router's samples are when the executor has the first committed "
    "decision that took them into account. The line is 300 ms.",
    formula="0.99 quantile of sample → committed tick that covers it, over one minute",
    when_red="See which part is late, the tick or the forecasts: *Time* on "
    "*Scheduler*, then *Age of the forecasts' samples* on *Forecast*. Often the machine "
    "is short of CPU.",
    kind="stat",
    red_above=LOOP_S,
)
