"""Training steps, measured on T4 (Pollux) and V100 (Gavel), scaled to newer GPUs.

The scaling is one named ratio, memory bandwidth: these models are bound by it more than by
arithmetic, and the ratio of arithmetic would promise more. Neither table has a memory column: what
is written is the most that a job can have needed where it ran.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.fit.least_squares import Measured, error_report, fit, significant
from bench.fit.profiles import GAVEL, POLLUX, Row, read

# GB/s, from the vendor's data sheets: T4, V100 SXM2, A100 SXM 80 GB, H100 SXM 80 GB.
BANDWIDTH = {"t4": 320.0, "v100": 900.0, "a100": 2039.0, "h100": 3350.0}
TARGETS = ("a100", "h100")
# GPUs on which Gavel's pairs shared the memory, in bytes. P100 and V100 had 16 GB, K80 12 GB.
SHARED_BYTES = {"k80": 12_000_000_000, "p100": 16_000_000_000, "v100": 16_000_000_000}
WHOLE_BYTES = 16_000_000_000  # of a T4, V100 or P100


class PolluxJob(NamedTuple):
    """One model at its largest measured batch; a step may add up several micro-batches."""

    app: str
    gpus: int
    micro_batches: int = 1


POLLUX_JOBS = (
    PolluxJob("bert", 1),
    PolluxJob("bert", 4),
    PolluxJob("cifar10", 1),
    PolluxJob("deepspeech2", 1),
    # Two micro-batches a step: the long uninterrupted step that a scheduler must live with.
    PolluxJob("deepspeech2", 1, 2),
    PolluxJob("deepspeech2", 4, 2),
    PolluxJob("imagenet", 1),
    PolluxJob("imagenet", 4),
)  # yolov3 is left out: its measured steps do not grow with the batch (8 samples beat 6)
GAVEL_JOBS = (
    "Transformer (batch size 256)",
    "ResNet-50 (batch size 128)",
    "CycleGAN",
    "LM (batch size 80)",
)


def fit_all(shared: Path) -> list[dict[str, Any]]:
    """One entry of `laws.yaml` each."""
    pollux, gavel = read(POLLUX, shared), read(GAVEL, shared)
    return [_pollux(job, pollux) for job in POLLUX_JOBS] + [
        _gavel(job, gavel) for job in GAVEL_JOBS
    ]


def _pollux(job: PolluxJob, rows: list[Row]) -> dict[str, Any]:
    by_batch = {
        int(row["local_bsz"]): float(row["step_time"]) * 1e3
        for row in rows
        if row["app"] == job.app
        and row["kind"] == "placements"
        and row["placement"] == str(job.gpus)  # all on one node
    }
    sizes = np.array(sorted(by_batch))
    times = np.array([by_batch[size] for size in sizes])
    measured = Measured(np.stack([np.ones(len(sizes)), sizes], axis=1).astype(float), times, sizes)
    x = fit(measured)
    # The step as it was measured, not by the law; that gradients are exchanged once for all
    # micro-batches is not taken off: it is a small part.
    step_ms = job.micro_batches * float(times[-1])
    suffix = f"-{job.gpus}gpu" if job.gpus > 1 else ""
    suffix += f"-x{job.micro_batches}" if job.micro_batches > 1 else ""
    return {
        "job": job.app + suffix,
        "gpus": job.gpus,
        "batch_per_gpu": int(sizes[-1]) * job.micro_batches,
        "micro_batches": job.micro_batches,
        "step_ms": _scaled("t4", step_ms),
        "law_on_t4": {"alpha_ms": significant(x[0]), "beta_ms": significant(x[1])},
        "rows": len(sizes),
        "median_error_percent": error_report(measured, x),
        "memory_bytes_at_most": WHOLE_BYTES,
        "memory_basis": "it ran on a T4",
        "sources": [POLLUX.file],
    }


def _gavel(job: str, rows: list[Row]) -> dict[str, Any]:
    alone = [
        row
        for row in rows
        if row["gpu"] == "v100"
        and row["job"] == job
        and row["gpus"] == "1"
        and not row["colocated_job"]
    ]
    memory_bytes, basis = _memory(job, rows)
    return {
        "job": job,
        "gpus": 1,
        "step_ms": _scaled("v100", 1e3 / float(alone[0]["steps_per_s"])),
        "rows": len(alone),
        "memory_bytes_at_most": memory_bytes,
        "memory_basis": basis,
        "sources": [GAVEL.file],
    }


def _scaled(measured_on: str, step_ms: float) -> dict[str, float]:
    return {
        device_type: significant(step_ms * BANDWIDTH[measured_on] / BANDWIDTH[device_type])
        for device_type in (measured_on, *TARGETS)
    }


def _memory(job: str, rows: list[Row]) -> tuple[int, str]:
    """Bound a job's memory: two of it ran on one GPU, so each took half of that at most."""
    ran: dict[str, bool] = defaultdict(bool)
    for row in rows:
        if row["job"] == row["colocated_job"] == job and row["gpus"] == "1":
            ran[row["gpu"]] |= float(row["steps_per_s"]) > 0
    halves = {SHARED_BYTES[gpu] // 2: gpu for gpu in SHARED_BYTES if ran[gpu]}
    if not halves:
        return WHOLE_BYTES, "it ran on a V100; two of it did not"
    least = min(halves)
    return least, f"two of it ran on one {halves[least].upper()}"
