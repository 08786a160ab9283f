"""The state of a fleet as tables of records, which the kernels change in place.

All kernels take one argument, `w` (the world): the record `HEAD`, which knows where the tables lie.
So a call costs little however much state there is, no reference to an array is ever counted (which
took two thirds of the time), and a table can grow between two calls. Times are milliseconds since
the start of the run, memory is bytes of one GPU, and an index of -1 says "none".
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray  # type: ignore[attr-defined]

from libs.common.series import LATENCY_BUCKETS
from libs.fleet.jit import SOURCES, as_pointer, kernel

World = Any  # the one HEAD, a record
Table = npt.NDArray[Any]

FOREVER = 1 << 60  # in iterations
NEVER_MS = 1e300  # later than any event, and finite, so that differences of it are
PER_GPU = 32  # replicas on a GPU at most
BUCKETS = LATENCY_BUCKETS

# --- States ---------------------------------------------------------------------------------------
# Of a replica.
GONE, LOADING, RESIDENT, DRAINING, TO_HOST, IN_HOST = range(6)
# Of a GPU's compute engine: what it runs now, and what it ran last.
IDLE, SERVING, STEP = range(3)
# Of a request.
OPEN, OK, LATE, REJECTED, UNFINISHED = range(5)
# Kinds of models and of routers.
BATCH, LLM = range(2)
FIRST_FIT, SHORTEST_QUEUE = range(2)
# Of a part of the training backlog on its GPUs.
ABSENT, HERE, STEPPING, LEAVING = range(4)
# Events: what falls due.
LOOK, RUN_ENDS, STEP_ENDS, MOVE_BEGINS, LINK_LOOK, LOADED, LEFT, READY, FAULT, HOPELESS = range(10)
# What the caller is told of (the log), and why a replica went.
SAID_LOADED, SAID_GONE = range(2)
ORDERED, OUT_OF_MEMORY, FAILED = range(3)
# Faults.
FAIL, REVIVE, RECLAIM = range(3)


def _record(**fields: str) -> np.dtype[np.void]:
    return np.dtype(list(fields.items()), align=True)


EVENT = _record(at_ms="f8", order="i8", kind="i4", subject="i4", ticket="i8")

GPU = _record(
    # What it is.
    memory="i8", node="i4", device_type="i4",
    # What is on it. `promised` counts replicas that wait for a job to go; `held` what is truly
    # taken by replicas, `batch` by the batch that runs, `job` by training.
    promised="i8", held="i8", batch="i8", job="i8", standby="i8",
    n_replicas="i4", n_loading="i4", requests="i4", part="i4",
    # What runs: from `work_from_ms` on, after a switch.
    run="i4", last="i4", work_from_ms="f8", ends_ms="f8",
    step_from_ms="f8", step_cost_ms="f8",
    look_ms="f8", looked_for="i4", down="i4", overhead="i4", steps="i4", oom="i4",
    # Its account; see `charge.py`.
    settled_ms="f8", serving_ms="f8", training_ms="f8", free_ms="f8", down_ms="f8",
    busy_serving_ms="f8", busy_training_ms="f8", wasted_ms="f8", switching_ms="f8",
    loading_ms="f8", standby_byte_ms="f8", unsaved_training_ms="f8", unsaved_busy_ms="f8",
)  # fmt: skip

REPLICA = _record(
    number="i8", ticket="i8", model="i4", node="i4", n_gpus="i4", state="i4", kind="i4",
    has_memory="i4", leaves_to_host="i4", from_host="i4",
    memory="i8", whole_memory="i8", request_bytes="i8",
    # Loading.
    ordered_ms="f8", image_ms="f8", compile_ms="f8", load_bytes="f8", transfer_end="f8", link="i4",
    # As ordered by the policy.
    batch_size="i4", concurrency="i4", wait_ms="f8", serving_share="f8",
    # The queue: requests waiting, first come first, and those of the running batch.
    held="i4", running="i4", head="i4", tail="i4", run_head="i4",
    # The law on its device type: batch.
    alpha_ms="f8", beta_ms="f8", since_ms="f8",
    # LLM: the law, the KV pool in tokens, and the running sequences: the first `decoding` of them
    # decode, the others are in their prompts. `context` is the tokens that the decoding ones read.
    base_ms="f8", prefill_ms="f8", decode_ms="f8", kv_ms="f8", iteration_max_ms="f8",
    kv_tokens="i8", context="i8", reserved="i8", held_tokens="i8", pending="i8", chunk="i8",
    decoding="i4", running_in="i4", tick="i8", next_finish="i8", iteration_ms="f8",
    cache_blocks="i4", cache_head="i4", cache_tail="i4", cache_free="i4",
)  # fmt: skip

MODEL = _record(
    kind="i4", router="i4", rejects="i4", known="i4", block_tokens="i4", kv_tokens="i8",
    theta="f8", belief="f8", objective_ms="f8", ttft_ms="f8", tpot_ms="f8", fastest_ms="f8",
    # The router's queue.
    head="i4", tail="i4", looked_for="i4", n_order="i4", hopeless_ms="f8",
    # Counters and gauges.
    arrivals="i8", ok="i8", late="i8", rejected="i8", unfinished="i8", handed_back="i8",
    preemptions="i8", migrations="i8", prompt_tokens="i8", output_tokens="i8", loads="i8",
    unloads="i8", queue="i8", in_flight="i8",
)  # fmt: skip

LAW = _record(
    # Sums of finished batches, from which s(b) = alpha + beta x b is fitted, and of loads.
    batches="i8", requests="i8", service_ms="f8", requests_squared="f8", cross="f8",
    loads="i8", load_ms="f8",
    # Sums of iterations.
    iterations="i8", prefill_tokens="i8", decodes="i8", kv_reads="f8", iteration_ms="f8",
    # Work of completed requests alone.
    done_requests="i8", done_prefill_tokens="i8", done_decodes="i8", done_kv_reads="f8",
)  # fmt: skip

NODE = _record(
    first_gpu="i4", n_gpus="i4", down="i4", cordoned="i4", start_ms="f8", started_ms="f8",
    host_memory="i8", host_taken="i8", changed="i4",
)  # fmt: skip

# A path for weights, two a node: from its disk, and between its GPUs and host memory.
LINK = _record(bytes_per_ms="f8", total="f8", settled_ms="f8", look_ms="f8", n="i4")

JOB = _record(
    gpus="i4", begun="i4", memory="i8", checkpoint_ms="f8", restore_ms="f8",
    checkpoint_every_ms="f8",
    steps_left="i8", steps_kept="i8", steps_rolled_back="i8", checkpoints="i8", restores="i8",
)  # fmt: skip

# A part of the backlog: a job on its GPUs.
PART = _record(
    job="i4", n_gpus="i4", state="i4", ticket="i8", ready_ms="f8", saving="i4",
    saved_ms="f8", ends_ms="f8", blocked_ms="f8", unsaved_steps="i8",
)  # fmt: skip

REQUEST = _record(
    due_ms="f8", queued_ms="f8", first_ms="f8", ended_ms="f8", block_start="i8", finish_tick="i8",
    model="i4", next="i4", status="i4", replica="i4", batch_size="i4",
    prompt_tokens="i4", output_tokens="i4", max_tokens="i4", n_blocks="i4",
    cached_tokens="i4", todo="i4", done="i4", generated="i4", joined="i4", preemptions="i4",
)  # fmt: skip

SAID = _record(at_ms="f8", took_ms="f8", kind="i4", replica="i4", reason="i4")

FAULTS = _record(kind="i4", node="i4", notice_ms="f8")

# A block of a prompt in a replica's cache: a list by last use, and chains of a hash table.
CACHED = _record(block="i8", newer="i4", older="i4", chain="i4", bucket="i4")

I4, I8, F8 = np.dtype("i4"), np.dtype("i8"), np.dtype("f8")

# name -> (record, how many dimensions)
TABLES: dict[str, tuple[np.dtype[Any], int]] = {
    "heap": (EVENT, 1), "gpus": (GPU, 1), "replicas": (REPLICA, 1), "models": (MODEL, 1),
    "laws": (LAW, 2), "nodes": (NODE, 1), "links": (LINK, 1), "jobs": (JOB, 1), "parts": (PART, 1),
    "requests": (REQUEST, 1), "said": (SAID, 1), "faults": (FAULTS, 1),
    "gpu_replicas": (I4, 2), "replica_gpus": (I4, 2), "part_gpus": (I4, 2), "orders": (I4, 2),
    "step_ms": (F8, 2), "latency_ratio": (I8, 2), "ttft_ratio": (I8, 2), "arrivals": (I4, 1),
    "ends": (I4, 1), "blocks": (I8, 1), "sequences": (I4, 2), "looks": (I4, 1), "lanes": (I4, 1),
    "cache": (CACHED, 2), "buckets": (I4, 2),
}  # fmt: skip

HEAD = np.dtype(
    [
        *((field, "f8") for field in ("now_ms", "switch_ms")),
        *((field, "i8") for field in (
            "order", "n_heap", "first_look", "n_looks", "first_lane", "n_lanes",
            "next_arrival", "n_arrivals", "n_ends", "n_said", "steps_left", "room",
        )),
        *((field, "i8") for name in TABLES for field in (f"at_{name}", f"n0_{name}", f"n1_{name}")),
        (f"sources_{SOURCES}", "i8"),
    ]
)  # fmt: skip


class Memory:
    """Owns the tables of one world."""

    def __init__(self) -> None:
        self.heads = np.zeros(1, HEAD)
        self.world: World = self.heads[0]
        self._tables: dict[str, Table] = {}

    def __getitem__(self, name: str) -> Table:
        """Return a table. Hold no view of one over a call that may let it grow."""
        return self._tables[name]

    def put(self, name: str, table: Table) -> Table:
        """Let the kernels see this table from now on."""
        record, dimensions = TABLES[name]
        assert table.dtype == record, name
        assert table.ndim == dimensions, name
        assert table.flags.c_contiguous, name
        head = self.world
        self._tables[name] = table
        head[f"at_{name}"] = table.ctypes.data
        head[f"n0_{name}"] = table.shape[0]
        head[f"n1_{name}"] = table.shape[1] if dimensions == 2 else 1
        return table

    def make(self, name: str, *shape: int) -> Table:
        """Add a table of zeros."""
        return self.put(name, np.zeros(shape, TABLES[name][0]))

    def grow(self, name: str, *shape: int) -> Table:
        """Make a table larger, if it is smaller than `shape`; what is new is zero."""
        old = self[name]
        if all(size <= there for size, there in zip(shape, old.shape, strict=True)):
            return old
        larger = np.zeros(tuple(map(max, shape, old.shape)), old.dtype)
        larger[tuple(slice(size) for size in old.shape)] = old
        return self.put(name, larger)


# --- The tables, as the kernels see them ----------------------------------------------------------


@kernel
def heap(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_heap), (w.n0_heap,), EVENT)


@kernel
def gpus(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_gpus), (w.n0_gpus,), GPU)


@kernel
def replicas(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_replicas), (w.n0_replicas,), REPLICA)


@kernel
def models(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_models), (w.n0_models,), MODEL)


@kernel
def nodes(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_nodes), (w.n0_nodes,), NODE)


@kernel
def links(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_links), (w.n0_links,), LINK)


@kernel
def jobs(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_jobs), (w.n0_jobs,), JOB)


@kernel
def parts(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_parts), (w.n0_parts,), PART)


@kernel
def requests(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_requests), (w.n0_requests,), REQUEST)


@kernel
def said(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_said), (w.n0_said,), SAID)


@kernel
def faults(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_faults), (w.n0_faults,), FAULTS)


@kernel
def arrivals(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_arrivals), (w.n0_arrivals,), I4)


@kernel
def ends(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_ends), (w.n0_ends,), I4)


@kernel
def blocks(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_blocks), (w.n0_blocks,), I8)


@kernel
def looks(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_looks), (w.n0_looks,), I4)


@kernel
def lanes(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_lanes), (w.n0_lanes,), I4)


@kernel
def laws(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_laws), (w.n0_laws, w.n1_laws), LAW)


@kernel
def gpu_replicas(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_gpu_replicas), (w.n0_gpu_replicas, w.n1_gpu_replicas), I4)


@kernel
def replica_gpus(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_replica_gpus), (w.n0_replica_gpus, w.n1_replica_gpus), I4)


@kernel
def part_gpus(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_part_gpus), (w.n0_part_gpus, w.n1_part_gpus), I4)


@kernel
def orders(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_orders), (w.n0_orders, w.n1_orders), I4)


@kernel
def step_ms(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_step_ms), (w.n0_step_ms, w.n1_step_ms), F8)


@kernel
def latency_ratio(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_latency_ratio), (w.n0_latency_ratio, w.n1_latency_ratio), I8)


@kernel
def ttft_ratio(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_ttft_ratio), (w.n0_ttft_ratio, w.n1_ttft_ratio), I8)


@kernel
def sequences(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_sequences), (w.n0_sequences, w.n1_sequences), I4)


@kernel
def cache(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_cache), (w.n0_cache, w.n1_cache), CACHED)


@kernel
def buckets(w: World) -> Table:  # noqa: D103
    return carray(as_pointer(w.at_buckets), (w.n0_buckets, w.n1_buckets), I4)
