"""Names of the series that more than one service knows, and the buckets of latency.

Counters only ever grow; rates are the reader's work, so that a lost tick loses no event.
"""

import numpy as np
import numpy.typing as npt

# --- Of a model, each 100 ms, by the router -------------------------------------------------------
ARRIVALS = "arrivals_total"
ENDS_OK = "ends_ok_total"
ENDS_LATE = "ends_late_total"
ENDS_REJECTED = "ends_rejected_total"
LATENCY_RATIO = "latency_ratio_total"  # ends by latency / objective; one series a bucket
QUEUE = "queue_requests"  # with the router or at a replica, not yet running
IN_FLIGHT = "in_flight_requests"  # running
PROMPT_TOKENS = "prompt_tokens_total"
OUTPUT_TOKENS = "output_tokens_total"

# --- Of a (model, device type): the sufficient statistics of s(b) = alpha + beta x b --------------
BATCHES = "batches_total"  # n
BATCH_REQUESTS = "batch_requests_total"  # sum of b
BATCH_SERVICE_MS = "batch_service_ms_total"  # sum of s
BATCH_REQUESTS_SQUARED = "batch_requests_squared_total"  # sum of b x b
BATCH_CROSS = "batch_cross_total"  # sum of b x s
LOADS = "loads_total"
LOAD_MS = "load_ms_total"
BY_DEVICE_TYPE = (
    BATCHES,
    BATCH_REQUESTS,
    BATCH_SERVICE_MS,
    BATCH_REQUESTS_SQUARED,
    BATCH_CROSS,
    LOADS,
    LOAD_MS,
)

# --- Of a device, by the executor (charge) or by the GPU collector (the rest) ---------------------
GPU_SERVING_S = "gpu_serving_seconds_total"  # charged to serving; see "Charge" in the docs
GPU_TRAINING_S = "gpu_training_seconds_total"
GPU_FREE_S = "gpu_free_seconds_total"
GPU_BUSY_SERVING_S = "gpu_busy_serving_seconds_total"  # kernels ran for requests that completed
GPU_BUSY_TRAINING_S = "gpu_busy_training_seconds_total"
GPU_MEMORY_USED = "gpu_memory_used_bytes"
GPU_MEMORY_TOTAL = "gpu_memory_total_bytes"
GPU_UTILIZATION = "gpu_utilization_ratio"
GPU_POWER = "gpu_power_watts"
GPU_ENERGY = "gpu_energy_joules_total"
GPU_TEMPERATURE = "gpu_temperature_celsius"
TRAINING_STEPS = "training_steps_total"
OOM = "oom_total"

# --- Of a node, by the host collector -------------------------------------------------------------
HOST_CPU_BUSY_S = "host_cpu_busy_seconds_total"  # over all cores
HOST_CPU_COUNT = "host_cpu_count"
HOST_MEMORY_USED = "host_memory_used_bytes"
HOST_MEMORY_TOTAL = "host_memory_total_bytes"
HOST_DISK_BUSY_S = "host_disk_busy_seconds_total"  # of the busiest disk
HOST_NETWORK_BYTES = "host_network_bytes_total"  # in and out

LATENCY_BUCKETS = 32
# Upper edges of all buckets but the last, which is open: four to a doubling, from 1/32 of the
# objective to 6.7 times it. Edge 20 is exactly 1, so "within the objective" is a sum of buckets.
LATENCY_RATIO_EDGES: npt.NDArray[np.float64] = 2.0 ** ((np.arange(LATENCY_BUCKETS - 1) - 20) / 4)


# What a step of a series' values is on the wire (libs/common/ticks.py), where it is not 1: as fine
# as its source tells it, or as its readers have any use for.
RESOLUTIONS = {
    BATCH_SERVICE_MS: 0.001,
    BATCH_CROSS: 0.001,
    LOAD_MS: 0.001,
    GPU_SERVING_S: 1e-6,
    GPU_TRAINING_S: 1e-6,
    GPU_FREE_S: 1e-6,
    GPU_BUSY_SERVING_S: 1e-6,
    GPU_BUSY_TRAINING_S: 1e-6,
    GPU_UTILIZATION: 0.01,  # NVML counts whole percent
    GPU_POWER: 0.1,  # NVML is right to 5 W
    GPU_ENERGY: 0.001,  # NVML counts mJ
    HOST_CPU_BUSY_S: 0.01,  # Linux counts 1/100 s
    HOST_MEMORY_USED: 1024,  # and memory in KiB
    HOST_MEMORY_TOTAL: 1024,
    HOST_DISK_BUSY_S: 0.001,  # and a disk's work in ms
}


def resolution(metric: str) -> float:
    """Return the step in which a metric's values travel; counts of things travel by 1."""
    return RESOLUTIONS.get(metric, 1.0)


def latency_bucket(ratio: float) -> int:
    """Return the bucket of a latency / objective; a value on an edge belongs below it."""
    return int(np.searchsorted(LATENCY_RATIO_EDGES, ratio, side="left"))
