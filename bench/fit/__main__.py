"""`python -m bench.fit`: fit the laws to the measured profiles and write `bench/laws.yaml`."""

import sys
from pathlib import Path

import yaml

from bench.fit import batch, days, llm, loading, training
from bench.fit.profiles import (
    GAVEL,
    GENAI_MIX,
    GENAI_STAGES,
    INFERENCE_BENCH,
    POLLUX,
    SERVEGEN,
    SPLITWISE,
    VIDUR,
    shared_folder,
)
from libs.common.errors import SettingError

LAWS = Path(__file__).parents[1] / "laws.yaml"
HEADER = """\
# Service times fitted to measurements of others, with their sources and errors. Written by
# `python -m bench.fit`; not edited by hand. docs/benchmark-data.md explains it.
#
# Errors are medians of |fitted / measured - 1| in percent; `left_out` is over batch sizes that the
# fit did not see, each between others that it saw.

"""


def write(shared: Path) -> str:
    """Return the content of `laws.yaml`. Raises SettingError where a profile is missing."""
    sources = (
        *(SPLITWISE, INFERENCE_BENCH, VIDUR, GENAI_STAGES, GENAI_MIX, POLLUX, GAVEL),
        *(SERVEGEN.of(name) for name in days.NAMES),
    )
    content = {
        "llm": llm.fit_all(shared),
        "batch": batch.fit_all(shared),
        "training": {
            "scaling": "step_ms on a100 and h100 = measured x ratio of memory bandwidths",
            "memory_bandwidth_gb_per_s": training.BANDWIDTH,
            "jobs": training.fit_all(shared),
        },
        "loading": loading.summarise(shared),
        "days": days.fit_all(shared),
        "sources": {
            source.file: {
                "repository": source.repository,
                "path": source.path,
                "commit": source.commit,
                "licence": source.licence,
            }
            for source in sources
        },
    }
    return HEADER + yaml.safe_dump(
        content, sort_keys=False, width=100, allow_unicode=True, default_flow_style=None
    )


def main() -> int:
    """Write the file, or say in one line why not."""
    try:
        content = write(shared_folder())
    except SettingError as error:
        print(error, file=sys.stderr)
        return 1
    LAWS.write_text(content, encoding="utf-8")
    print(f"wrote {LAWS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
