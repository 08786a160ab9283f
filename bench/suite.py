"""The suite that the decision core is judged by: which loads, whom beside ours, which errors.

Smooth, bursty and very bursty load, each with loads that take 30 to 300 s, and traces where they
are there. At 60 s ours also runs with laws of time and of memory that are wrong (`errors.py`).
"""

from pathlib import Path
from typing import NamedTuple

from bench.compare import OURS
from bench.errors import Errors
from bench.grid import TRACES, Case
from bench.peers import Variant
from bench.scenario import LoadSpec, Scenario
from libs.common.errors import SettingError

KINDS = ("smooth", "bursty", "very_bursty")
COLD_START_S = 60.0  # with which all is run; with the others only what does not want tuning
OTHER_COLD_STARTS_S = (30.0, 120.0, 300.0)
# The peers that came out ahead somewhere in `docs/benchmark.md`, and the ones that most people run.
PEERS = ("static", "hpa", "kpa", "aibrix", "wva")
CORES = ("ours", "clairvoyant", "oracle")
RULES = ("weights",)  # for the split of a GPU, beside ours
VARIANTS = ("default", "tuned", "default+shares", "tuned+shares")


class Trial(NamedTuple):
    """One load, and who runs on it."""

    scenario: Scenario
    policies: tuple[str, ...]
    variants: tuple[str, ...]
    more: tuple[Variant, ...] = ()


def chosen_kinds(names: str) -> tuple[str, ...]:
    """Return the kinds of a list such as `smooth,bursty`.

    Raises:
        SettingError: there is no such kind, or none is named.
    """
    wanted = tuple(name.strip() for name in names.split(",") if name.strip())
    for name in wanted or ("",):
        if name not in KINDS:
            raise SettingError(f"--kinds: no kind {name!r}; there are {', '.join(KINDS)}")
    return wanted


def errors_of(law: float, memory: float) -> tuple[Variant, ...]:
    """Return ours with each law wrong, both ways; that of time also where nothing corrects it."""
    found = [Errors(law=by, learns=learns) for by in (-law, law) if law for learns in (True, False)]
    found += [Errors(memory=by) for by in (-memory, memory) if memory]
    return tuple(Variant(OURS, errors.name, setting=errors) for errors in found)


def trials(folder: Path, law: float, memory: float, kinds: tuple[str, ...] = KINDS) -> list[Trial]:
    """Return the suite, with the traces that lie in `folder`.

    Raises:
        SettingError: there is no such scenario.
    """
    found = []
    for kind in kinds:
        scenario = Case(kind, {}).scenario()
        more = errors_of(law, memory)
        found.append(Trial(scenario, PEERS + CORES + RULES, VARIANTS, more))
        for cold_start_s in OTHER_COLD_STARTS_S:
            loaded = with_load_time(scenario, cold_start_s)
            found.append(Trial(loaded, ("static", "hpa", *CORES), ("default",)))
    for name, trace in TRACES:
        path = folder / trace
        if name in (*kinds, "default") and path.exists():
            traced = Case(name, {"chat": path}).scenario()
            found.append(Trial(traced, ("static", "hpa", *CORES), ("default",)))
    return found


def with_load_time(scenario: Scenario, cold_start_s: float) -> Scenario:
    """Return it with every model loading so long, a warm-up twice that, and the same load after it.

    Raises:
        SettingError: a model's bytes and compilation alone take longer.
    """
    warmup_s = max(scenario.warmup_s, 2 * cold_start_s)
    later_s = warmup_s - scenario.warmup_s
    duration_s = scenario.duration_s + later_s

    def moved(load: LoadSpec) -> LoadSpec:
        begin, end, times = load.burst
        at = [(scenario.duration_s * part + later_s) / duration_s for part in (begin, end)]
        return load if begin == end else load.model_copy(update={"burst": (at[0], at[1], times)})

    loads = {model: moved(load) for model, load in scenario.load.items()}
    changed = {"duration_s": duration_s, "load": loads}
    loaded = scenario.model_copy(update=changed).with_cold_start(cold_start_s)
    return loaded.model_copy(update={"name": f"{scenario.name}-cold{cold_start_s:g}"})
