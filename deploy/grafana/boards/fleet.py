"""What each GPU does, what it holds, and what comes of it."""

from deploy.grafana.boards.loop import OUT_OF_MEMORY
from deploy.grafana.phrases import NODES, busy, rate, ratio
from deploy.grafana.vocabulary import (
    FREE,
    RED,
    SERVING,
    TRAINING,
    Board,
    Panel,
    Query,
    Row,
    Variable,
    Word,
)

USED = "plimsoll_gpu_memory_used_bytes"
TOTAL = "plimsoll_gpu_memory_total_bytes"
KINDS = (("serving", SERVING), ("training", TRAINING), ("free", FREE))
GPU = "node, gpu"


def charged(kind: str, by: str = "") -> str:
    """Return the GPU-seconds a second that are charged to `kind`: as many GPUs."""
    return rate("plimsoll_gpu_seconds_total", by, f'{NODES}, kind="{kind}"')


def charged_most() -> str:
    """Return for each GPU 2 when most of its time is serving's, 1 training's, 0 nobody's."""
    serving, training, free = (charged(kind, GPU) for kind, _ in KINDS)
    mostly_serving = f"({serving} > bool {training}) * ({serving} > bool {free})"
    mostly_training = f"({training} >= bool {serving}) * ({training} > bool {free})"
    return f"2 * {mostly_serving} + {mostly_training}"


NOW = Row(
    "What is there, and is it used?",
    4,
    (
        Panel(
            "GPUs",
            "short",
            (Query(f"count({TOTAL}{{{NODES}}})", "GPUs"),),
            shows="GPUs that report, of the chosen nodes.",
            formula="count of the GPUs with a memory size",
            when_red="Fewer than the fleet has: an executor or a node is away.",
            kind="stat",
        ),
        Panel(
            "Busy",
            "percentunit",
            (Query(busy(where=NODES), "busy"),),
            shows="The part of the GPU time of the last minute in which a kernel ran for a "
            "completed request or a kept step.",
            formula="busy GPU-seconds ÷ all GPU-seconds",
            when_red="Low: see *What each GPU is charged to* for GPUs that are free.",
            kind="stat",
        ),
        Panel(
            "Charged to serving",
            "percentunit",
            (
                Query(
                    ratio(charged("serving"), rate("plimsoll_gpu_seconds_total", "", NODES)),
                    "serving",
                ),
            ),
            shows="The part of the GPU time that serving pays for.",
            formula="GPU-seconds of kind serving ÷ all GPU-seconds",
            when_red="Much more than load asks for: more replicas are resident than needed. They "
            "go when the shrink hold is over.",
            kind="stat",
        ),
        Panel(
            "Memory used",
            "percentunit",
            (Query(f"max({USED}{{{NODES}}} / {TOTAL}{{{NODES}}})", "fullest GPU"),),
            shows="How full the memory of the fullest GPU is. Full is as it should be; more than "
            "full kills a replica.",
            formula="largest over the GPUs of bytes used ÷ bytes there",
            when_red="Near 100 % the next batch may not fit if a model's memory is understated in "
            "models.yaml.",
            kind="stat",
        ),
        OUT_OF_MEMORY,
        Panel(
            "Training",
            "cps",
            (Query(rate("plimsoll_training_steps_total", "", NODES), "steps a second"),),
            shows="Training steps kept a second, on the chosen nodes.",
            formula="growth of the count of steps, a second",
            when_red="Zero while GPUs are free: no job of fleet.yaml fits, or all are done.",
            kind="stat",
        ),
    ),
)

CHARGE = Row(
    "What each GPU does",
    9,
    (
        Panel(
            "What each GPU is charged to",
            "short",
            (Query(charged_most(), "{{node}}/{{gpu}}"),),
            shows="Who has most of each GPU's time. Load packs on few GPUs, in a fixed order; the "
            "others train, and give way when load comes.",
            formula="the largest of the three kinds of charge, by GPU",
            when_red="Gray for long: nothing to serve, and no training job that fits.",
            kind="states",
            words=(
                Word(2, "serving", SERVING),
                Word(1, "training", TRAINING),
                Word(0, "free", FREE),
            ),
        ),
        Panel(
            "Busy by GPU",
            "percentunit",
            (Query(busy(by=GPU, where=NODES), "{{node}}/{{gpu}}"),),
            shows="The part of each GPU's time in kernels for completed requests and kept steps.",
            formula="busy GPU-seconds ÷ all GPU-seconds, by GPU, over one minute",
            when_red="At 0 while charged to serving: a replica loads there, or stands by and "
            "leaves no room for training.",
            axis=(0, 1),
        ),
    ),
)

BY_NODE = Row(
    "Charge by node",
    7,
    (
        Panel(
            "GPUs by charge",
            "short",
            tuple(Query(charged(kind), kind, color) for kind, color in KINDS),
            shows="How many of the node's GPUs each kind of charge takes, over time.",
            formula="GPU-seconds a second, by kind",
            when_red="The sum is less than the node's GPUs: some do not report.",
            stacked=True,
            repeat="node",
        ),
    ),
)

HELD = Row(
    "What they hold, and what comes of it",
    8,
    (
        Panel(
            "Memory used by GPU",
            "decbytes",
            (
                Query(f"{USED}{{{NODES}}}", "{{node}}/{{gpu}}"),
                Query(f"max({TOTAL}{{{NODES}}})", "all of a GPU", RED, dashed=True),
            ),
            shows="Memory of weights, activations, batches and training on each GPU, under the "
            "line of what a GPU has.",
            formula="bytes allocated; the largest memory size of the chosen nodes' GPUs",
            when_red="A line at the limit is at risk if a model's memory is understated; see "
            "*Out of memory*.",
        ),
        Panel(
            "Replicas by state",
            "short",
            (Query("sum by (state) (plimsoll_replicas)", "{{state}}"),),
            shows="Replicas of all models and nodes: loading, resident on standby, awake (the "
            "router may send), draining.",
            formula="the executor's count, by state",
            when_red="Loading for longer than the load time: the node's disk is shared by many "
            "loads. Draining for long: requests on the replica do not end.",
            stacked=True,
        ),
        Panel(
            "Training steps",
            "cps",
            (Query(rate("plimsoll_training_steps_total", GPU, NODES), "{{node}}/{{gpu}}"),),
            shows="Training steps kept a second on each GPU.",
            formula="growth of the count of steps, a second",
            when_red="Falls on all GPUs while load is low: replicas are resident everywhere; see "
            "*Replicas and targets* on *Overview*.",
        ),
    ),
)

FLEET = Board(
    "Fleet",
    "What does each GPU do, and what does it hold?",
    (NOW, CHARGE, BY_NODE, HELD),
    (Variable("node", TOTAL),),
)
