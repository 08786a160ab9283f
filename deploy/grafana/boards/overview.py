"""The home: is it well, what is asked, what carries it, what are the GPUs used for."""

from deploy.grafana.boards.loop import LEADERS, LOOP_LATENCY, OUT_OF_MEMORY
from deploy.grafana.phrases import (
    MODELS,
    attainment,
    busy,
    quantile,
    rate,
    ratio,
    worst,
)
from deploy.grafana.vocabulary import (
    ARRIVING,
    CAPACITY,
    DEMAND,
    FORESEEN,
    FREE,
    SERVING,
    TRAINING,
    Board,
    Panel,
    Query,
    Row,
    Variable,
)

LATENCY = "plimsoll_request_latency_ratio"
DEMAND_RPS = f"max by (model) (plimsoll_demand_rps{{{MODELS}}})"
CAPACITY_RPS = f"max by (model) (plimsoll_capacity_rps{{{MODELS}}})"

WELL = Row(
    "Is it well?",
    4,
    (
        Panel(
            "Attainment",
            "percentunit",
            (Query(f"min({attainment()})", "lowest model"),),
            shows="Of the requests that ended in the last five minutes, those within the "
            "objective; the lowest of the models. The line is 99 %.",
            formula="least over the models of ok ÷ (ok + late + rejected)",
            when_red="See which model it is under *Objective*, and whether its demand has passed "
            "its capacity. If so, wait for the replicas that load (*Replicas and targets*), or "
            "see on *Scheduler* why none is ordered. If not, the replicas are slower than "
            "their service-time law says: look at theta on *Scheduler*.",
            kind="stat",
            red_below=0.99,
        ),
        Panel(
            "Latency ÷ objective",
            "percentunit",
            (Query(worst(quantile(0.99, LATENCY, "model", MODELS)), "worst model"),),
            shows="99 of 100 requests were served within this part of their objective, over the "
            "last minute; the worst of the models.",
            formula="largest over the models of the 0.99 quantile of latency ÷ objective, read "
            "from buckets",
            when_red="As for *Attainment*, which follows a few minutes later.",
            kind="stat",
            red_above=1,
        ),
        Panel(
            "Demand ÷ capacity",
            "percentunit",
            (Query(worst(f"{DEMAND_RPS} / {CAPACITY_RPS}"), "fullest model"),),
            shows="How far the fullest model is loaded. At 100 % its replicas are at the line: "
            "what comes beyond it waits longer than the objective allows.",
            formula="largest over the models of (arrivals + the rate that empties the queue in one "
            "second) ÷ what the resident replicas carry with p99 within the objective",
            when_red="A burst shorter than the load time is taken by the queue and by batches. If "
            "it stays red, see *Decisions* on *Scheduler*: the reason `fleet` means that no GPU "
            "has room, `replicas_max` that the model's own limit holds.",
            kind="stat",
            red_above=1,
        ),
        Panel(
            "Load",
            "reqps",
            (Query(rate("plimsoll_arrivals_total", "", MODELS), "all models"),),
            shows="Requests that reach the router, over all chosen models.",
            formula="growth of the router's count of arrivals, a second",
            when_red="Zero while apps send: see *Lag* on *Bus*, and whether the executor is up.",
            kind="stat",
        ),
        Panel(
            "GPUs busy",
            "percentunit",
            (Query(busy(), "all GPUs"),),
            shows="The part of all GPU time, over the last minute, in which a kernel ran for a "
            "request that was completed or a training step that was kept.",
            formula="busy GPU-seconds ÷ all GPU-seconds",
            when_red="Low while training waits: see *Charge*, and on *Fleet* which GPUs are "
            "free. What is charged to serving but not busy is loading or waits for company.",
            kind="stat",
        ),
        OUT_OF_MEMORY,
        LEADERS,
        LOOP_LATENCY,
    ),
)

LOAD = Row(
    "Load, and what carries it",
    9,
    (
        Panel(
            "Load under the line",
            "reqps",
            (
                Query(rate("plimsoll_arrivals_total", "", MODELS), "arriving", ARRIVING),
                Query(f"sum({DEMAND_RPS})", "demand", DEMAND),
                Query(
                    f"sum(max by (model) (plimsoll_foreseen_rps{{{MODELS}}}))",
                    "foreseen",
                    FORESEEN,
                ),
                Query(f"sum({CAPACITY_RPS})", "capacity", CAPACITY, dashed=True),
            ),
            shows="What arrives and what that asks for, under the line up to which the resident "
            "replicas may be loaded. The axis is logarithmic: a distance is a factor. `foreseen` "
            "is the load over the lead time for which replicas are bought now.",
            formula="arriving: growth of the router's count; demand: arrivals + the rate that "
            "empties the queue in one second; foreseen: the newsvendor quantile over the lead "
            "time; capacity: the rate that the resident replicas carry with p99 within the "
            "objective",
            when_red="Demand above the line and staying there: see *Demand ÷ capacity*. "
            "Foreseen far above all that comes: see *Error* on *Forecast*.",
            log=True,
            repeat="model",
        ),
    ),
)

REPLICAS = Row(
    "Replicas, and how many are wanted",
    6,
    (
        Panel(
            "Replicas and targets",
            "short",
            (
                Query(
                    f'sum(plimsoll_replicas{{{MODELS}, state!="draining"}})', "replicas", CAPACITY
                ),
                Query(f"max(plimsoll_replicas_target{{{MODELS}}})", "target", DEMAND, dashed=True),
            ),
            shows="Replicas that are there or are loading, and how many the scheduler wants.",
            formula="replicas loading, on standby or awake; the leader's target",
            when_red="Apart for longer than a load takes: see *Commands* on *Scheduler* for "
            "failed ones, and on *Fleet* whether a GPU has the memory.",
            repeat="model",
        ),
    ),
)

OBJECTIVE = Row(
    "Objective",
    8,
    (
        Panel(
            "Attainment by model",
            "percentunit",
            (Query(attainment(), "{{model}}"),),
            shows="Of the requests that ended in the last five minutes, those within the "
            "objective. The axis begins at 90 %, the line is 99 %.",
            formula="ok ÷ (ok + late + rejected), by model",
            when_red="As for *Attainment* in the first row. A line that is not to be seen lies "
            "below 90 %, or its model has had no request.",
            red_below=0.99,
            axis=(0.9, 1),
        ),
        *(
            Panel(
                f"Latency ÷ objective, p{percent}",
                "percentunit",
                (Query(quantile(percent / 100, LATENCY, "model", MODELS), "{{model}}"),),
                shows=f"{percent} of 100 requests were served within this part of their objective. "
                f"{role}",
                formula=f"{percent / 100} quantile of latency ÷ objective over one minute, from "
                "buckets",
                when_red=act,
                red_above=1,
            )
            for percent, role, act in (
                (
                    99,
                    "The objective is to hold here.",
                    "As for *Attainment*, which follows a few minutes later.",
                ),
                (
                    98,
                    "Theta is corrected by it: it falls above 85 %, and rises below 70 %.",
                    "Theta falls within seconds, and the router fills its replicas less. If it "
                    "stays red, demand is above capacity: see *Load under the line*.",
                ),
            )
        ),
        Panel(
            "Queue",
            "short",
            (Query(f"sum by (model) (plimsoll_queue_requests{{{MODELS}}})", "{{model}}"),),
            shows="Requests that wait at the router.",
            formula="the router's own count, by model",
            when_red="A queue that grows without end: capacity is short (*Load under the line*) "
            "or the executor stands still (*Fleet*).",
        ),
    ),
)

GPUS = Row(
    "GPUs",
    8,
    (
        Panel(
            "Busy",
            "percentunit",
            (
                Query(busy("serving"), "serving", SERVING),
                Query(busy("training"), "training", TRAINING),
                Query(f"clamp_min(1 - {busy()}, 0)", "idle", FREE),
            ),
            shows="What the GPUs' kernels work for; idle is all the rest: free, loading, waiting "
            "for a batch to fill.",
            formula="busy GPU-seconds by kind ÷ all GPU-seconds, over one minute",
            when_red="Much idle beside much *Charge* to serving: replicas are resident without "
            "work. They go when the shrink hold (a minute) is over.",
            axis=(0, 1),
            stacked=True,
        ),
        Panel(
            "Charge",
            "percentunit",
            tuple(
                Query(
                    ratio(
                        rate("plimsoll_gpu_seconds_total", "", f'kind="{kind}"'),
                        rate("plimsoll_gpu_seconds_total"),
                    ),
                    kind,
                    color,
                )
                for kind, color in (
                    ("serving", SERVING),
                    ("training", TRAINING),
                    ("free", FREE),
                )
            ),
            shows="Whom each GPU-second is charged to. Serving has it while a request is there, "
            "and while a replica is resident and nothing trains.",
            formula="GPU-seconds by kind ÷ all GPU-seconds",
            when_red="Free while there is training to do: no training job fits into the memory "
            "that replicas leave, see *Memory used* on *Fleet*.",
            axis=(0, 1),
            stacked=True,
        ),
    ),
)

OVERVIEW = Board(
    "Overview",
    "Is it well, and what are the GPUs used for?",
    (WELL, LOAD, REPLICAS, OBJECTIVE, GPUS),
    (Variable("model", "plimsoll_arrivals_total"),),
)
