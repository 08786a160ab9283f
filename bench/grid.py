"""What `make bench-full` runs: scenarios, cold starts and traces."""

from pathlib import Path
from typing import NamedTuple

from bench.scenario import Scenario, read_scenario

COLD_STARTS_S = (30.0, 60.0, 120.0, 300.0)
SCENARIOS = ("smooth", "bursty", "very_bursty", "three_days")
# For the model `chat` of a scenario; those that are not there are left out. Mooncake's prompts are
# ten times as long, so it goes where there are few copies.
TRACES = (
    ("default", "llm/azure_llm_2023_conv.csv.gz"),
    ("very_bursty", "llm/mooncake_conversation.jsonl.gz"),
)


class Case(NamedTuple):
    """One scenario, as a user varies it."""

    name: str
    traces: dict[str, Path]
    cold_start_s: float | None = None

    def scenario(self) -> Scenario:
        """Return it, read and checked, under a name that tells the variation.

        Raises:
            SettingError: there is no such scenario or model, or it is wrong.
        """
        scenario = read_scenario(self.name)
        name = scenario.name
        if self.traces:
            scenario = scenario.with_traces(self.traces)
        if self.cold_start_s is not None:
            scenario = scenario.with_cold_start(self.cold_start_s)
            name += f"-cold{self.cold_start_s:g}"
        for model, path in self.traces.items():
            name += f"-{model}-{path.name.partition('.')[0]}"
        return scenario.model_copy(update={"name": name})


def cases(folder: Path) -> list[Case]:
    """Return the grid, with the traces that lie in `folder`."""
    found = [Case("default", {}, cold_start_s) for cold_start_s in COLD_STARTS_S]
    found += [Case(name, {}) for name in SCENARIOS]
    for name, trace in TRACES:
        if (folder / trace).exists():
            found.append(Case(name, {"chat": folder / trace}))
    return found
