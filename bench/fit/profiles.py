"""The measured profiles: where they are, whose they are, and their rows.

The data is not part of the project; the fitted coefficients are, with their source.
"""

import csv
import gzip
import os
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

from libs.common.errors import SettingError

ROOT = Path(__file__).parents[2]
Row = dict[str, str]
K = TypeVar("K")


class Source(NamedTuple):
    """One file of measurements, and where it was published."""

    file: str
    repository: str
    path: str
    commit: str
    licence: str

    def of(self, name: str) -> "Source":
        """Return the one of several alike whose `name` stands for {}."""
        return self._replace(file=self.file.format(name), path=self.path.format(name))


SPLITWISE = Source(
    "profiles/open/splitwise_llm_perf.csv.gz",
    "Mutinifni/splitwise-sim",
    "data/perf_model.csv",
    "8f99e7dc9b407f4ce2488d03dd44c0b8b946dab0",
    "MIT",
)
INFERENCE_BENCH = Source(
    "profiles/open/llm_inference_bench.csv.gz",
    "argonne-lcf/LLM-Inference-Bench",
    "Plots/All_results.csv",
    "4211f5d4e9bc0145ed541b6d372d5d8223b44235",
    "BSD-3-Clause",
)
VIDUR = Source(
    "profiles/open/vidur_layer_times.csv.gz",
    "microsoft/vidur",
    "data/profiling/compute/*/*/mlp.csv",
    "7d47513363ec447a741ac5e47241580b47724fbf",
    "MIT",
)
GENAI_STAGES = Source(
    "profiles/open/genai_stage_latencies.csv.gz",
    "alibaba/clusterdata",
    "cluster-trace-v2026-GenAI/*",
    "7a6c496e4f4b6ce6150be8f881cb051bf2abff42",
    "no licence file for this directory; asks for citation of its paper",
)
GENAI_MIX = GENAI_STAGES._replace(
    file="traces/genai/genai_request_mix.csv.gz",
    path="cluster-trace-v2026-GenAI/data_trace_processed.tar.gz",
)
POLLUX = Source(
    "profiles/open/pollux_training_steps.csv.gz",
    "petuum/adaptdl",
    "simulator/traces/*/placements.csv (branch osdi21-artifact)",
    "c793c7089bd307462686339d29707925c461f9a9",
    "Apache-2.0 (master branch)",
)
GAVEL = Source(
    "profiles/open/gavel_training_throughputs.csv.gz",
    "stanford-futuredata/gavel",
    "scheduler/simulation_throughputs.json",
    "c4fa40097339e9608ab71fd64c8bdea96a5e4a4c",
    "MIT",
)
# Of each load: its name takes the place of {}.
SERVEGEN = Source(
    "traces/llm/servegen_{}_total.csv.gz",
    "alibaba/ServeGen",
    "data/language/{}/chunk-*-trace.csv",
    "f891d1189eb32b3868dfc443800c4150548c282a",
    "Apache-2.0",
)


def shared_folder() -> Path:
    """Where traces and profiles lie: PLIMSOLL_SHARED, or `../shared` beside the project."""
    return Path(os.environ.get("PLIMSOLL_SHARED") or ROOT.parent / "shared")


def read(source: Source, shared: Path) -> list[Row]:
    """Read all rows of a profile.

    Raises:
        SettingError: the file is not there or cannot be read.
    """
    path = shared / source.file
    try:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            return list(csv.DictReader(lines))
    except (OSError, EOFError) as error:
        raise SettingError(
            f"{path}: {getattr(error, 'strerror', None) or error}; PLIMSOLL_SHARED names the "
            "folder with profiles/ and traces/, ../shared if it is not set"
        ) from error


def medians(pairs: Iterable[tuple[K, float]]) -> dict[K, float]:
    """Return the median of repeated measurements, by key, in order of first appearance."""
    by_key: dict[K, list[float]] = {}
    for key, value in pairs:
        by_key.setdefault(key, []).append(value)
    return {key: median(values) for key, values in by_key.items()}
