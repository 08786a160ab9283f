"""Many runs at once, on the cores there are: the sizes, then tuning, then every policy and seed.

A worker is a process and does one run after the other. Nothing is written here.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from bench.bounds import burst_of, kind_of, oracle_gpu_s
from bench.compare import TARGET, Line
from bench.full import Full, full_replica
from bench.headline import gpus_charged
from bench.load import load_of
from bench.outcome import Row, with_regret
from bench.peers import SCALERS, SHARES, TUNED, Variant, variants_of
from bench.run import Plan, Result, Series, run
from bench.scenario import Scenario
from bench.sizing import HEADROOM, SEED, TARGETS, gpus_of, static_sizes
from bench.tuning import best, settings_of, try_out
from bench.window import Window, judged_on
from libs.fleet.warm import warm as fleet_warm
from services.predictor.core.warm import warm as predictor_warm
from services.scheduler.core.warm import warm as scheduler_warm

AT_ONCE = 4  # settings that a worker tries on one load
# Our share loop takes most of a run's time: a peer's counts under it, and trials of ours beside
# ours, are played on so many seeds.
SHARED_SEEDS = 1
T = TypeVar("T")
Tell = Callable[[str, int, int], None]  # what is done, how much of it, of how much

# The static fleets, as the sizes are found.
SIZES = (
    *(f"for {100 * target:g} %" for target in TARGETS),
    *(f"of {times:g} times the largest of these" for times in HEADROOM),
)


class Facts(NamedTuple):
    """What the report says of the load, from the first seed."""

    labels: dict[str, str]  # of the load, by model
    burst: float  # largest 10 s mean / mean, of oracle work
    kind: str
    oracle_gpus: dict[str, float]  # by model, in the mean of the judged part
    duration_s: float
    judged: Window
    notes: list[str]


class Campaign(NamedTuple):
    """All that a report is made from."""

    scenario: Scenario
    seeds: tuple[int, ...]
    first: dict[str, int]
    rows: list[Row]
    series: dict[tuple[str, str], Series]  # of the first seed, by policy and variant
    facts: Facts
    chosen: dict[str, Any]  # by peer: the setting that tuning found


def play(
    scenario: Scenario,
    policies: Sequence[str],
    variants: Collection[str],
    seeds: Sequence[int],
    tell: Tell,
    jobs: int = 0,
    more: Sequence[Variant] = (),
) -> Campaign:
    """Run every policy with every seed, and compare; of peers, only these variants.

    `more` are run beside them, on the first seed alone.

    Raises:
        ContractError: the load cannot be read, before anything runs.
    """
    loads = {seed: load_of(scenario, seed) for seed in {SEED, seeds[0]}}
    full = {
        spec.name: full_replica(spec, loads[SEED].arrivals[spec.name]) for spec in scenario.models
    }
    load = loads[seeds[0]]
    window = judged_on(scenario, load)
    parts = oracle_gpu_s(scenario, load, window.begin_s)
    charge = {m: float(part.sum()) / window.seconds for m, part in parts.items()}
    burst = burst_of(scenario, load)
    fleet_warm()  # here, once, so that the workers find the kernels compiled
    predictor_warm()
    scheduler_warm()
    with _pool(jobs) as pool:
        sizes = _sizes(pool, scenario, full, tell)
        first = {model: found[0] for model, found in sizes.items()}
        plan = Plan(scenario, full, first)
        peers = [policy for policy in policies if policy in SCALERS]
        tuned = peers if any(name.startswith(TUNED) for name in variants) else []
        chosen = _tuned(pool, plan, tuned, seeds[0], tell)
        static, notes = _statics(scenario, sizes) if "static" in policies else ([], [])
        runs = [Variant(name) for name in ("clairvoyant", "ours", "weights") if name in policies]
        runs += [*more, *_of_peers(peers, variants, chosen)]
        runs += [*static, *(Variant(name) for name in ("oracle",) if name in policies)]
        done = _results(pool, plan, runs, seeds, more, tell)
        if "static" in policies and "ours" in policies:
            same = [_at_our_charge(scenario, sizes, done, window.seconds, runs)]
            done |= _results(pool, plan, list(filter(None, same)), seeds, (), tell)
    rows = with_regret([result.row for result in done.values()])
    series = {
        (variant.policy, variant.variant): result.series
        for variant in runs
        if (result := done[variant, seeds[0]]).series is not None
    }
    reached = [row["slo_attainment"] or 0.0 for row in rows if row["policy"] != "oracle"]
    if reached and max(reached) < 0.99:
        notes.append("No policy reached 99 %: some of this load may be more than any fleet can do.")
    facts = Facts(load.labels(), burst, kind_of(burst), charge, load.duration_s, window, notes)
    return Campaign(scenario, tuple(seeds), first, rows, series, facts, chosen)


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def _sizes(
    pool: ProcessPoolExecutor, scenario: Scenario, full: dict[str, Full], tell: Tell
) -> dict[str, list[int]]:
    futures = {
        pool.submit(_size, scenario, full[spec.name], spec.name): spec.name
        for spec in scenario.models
    }
    found = {}
    for future in _each(futures, lambda n: tell("sizing", n, len(futures))):
        found[futures[future]] = future.result()
    return {spec.name: found[spec.name] for spec in scenario.models}


def _size(scenario: Scenario, full: Full, model: str) -> list[int]:
    return static_sizes(scenario, load_of(scenario, SEED), full, model)


def _statics(scenario: Scenario, sizes: dict[str, list[int]]) -> tuple[list[Variant], list[str]]:
    """Return the static fleets, and what a reader must know of their sizes."""
    gpus = len(scenario.fleet.devices())
    found: dict[int, Variant] = {}
    notes = []
    for place, size_of in enumerate(SIZES, 1):
        replicas = {model: size[place] for model, size in sizes.items()}
        n = gpus_of(scenario, replicas)
        if n > gpus:
            notes.append(
                f"A static fleet {size_of} would take {n} GPUs, and there are {gpus}; it is "
                "left out."
            )
        else:
            found.setdefault(n, Variant("static", f"n={n}", tuple(replicas.items())))
    return list(found.values()), notes


def _at_our_charge(
    scenario: Scenario,
    sizes: dict[str, list[int]],
    done: dict[tuple[Variant, int], Result],
    window_s: float,
    runs: Sequence[Variant],
) -> Variant | None:
    """Return the static fleet of as many GPUs as ours is charged for; None: it is there already.

    Each model gets its part of the size for 99.5 %, one replica at least, so that there may be a
    few GPUs more: then it is the fleet with the fewest.
    """
    ours = [result.row for (variant, _), result in done.items() if variant == Variant("ours")]
    n = gpus_charged(Line("ours", "default", tuple(ours)), window_s / 3600)
    wanted = {model: size[1 + TARGETS.index(TARGET)] for model, size in sizes.items()}
    spec_of = {spec.name: spec for spec in scenario.models}
    part = n / gpus_of(scenario, wanted)
    replicas = {model: max(1, int(part * size)) for model, size in wanted.items()}
    lacking = sorted(wanted, key=lambda model: replicas[model] / wanted[model])
    for model in lacking:
        while gpus_of(scenario, replicas) + spec_of[model].gpus <= n and (
            replicas[model] < part * wanted[model]
        ):
            replicas[model] += 1
    same = Variant("static", f"n={gpus_of(scenario, replicas)}", tuple(replicas.items()))
    return None if any(run.variant == same.variant for run in runs) else same


def _of_peers(
    peers: Sequence[str], wanted: Collection[str], chosen: dict[str, Any]
) -> list[Variant]:
    """Return the variants of all peers that are wanted, the slowest first."""
    found = [
        Variant(policy, name, setting=chosen[policy] if TUNED in name else None)
        for policy in peers
        for name in variants_of(policy)
        if name in wanted
    ]
    return sorted(found, key=lambda variant: not variant.variant.endswith(SHARES))


def _tuned(
    pool: ProcessPoolExecutor, plan: Plan, peers: Sequence[str], seed: int, tell: Tell
) -> dict[str, Any]:
    settings = {policy: settings_of(policy) for policy in peers}
    futures = {
        pool.submit(try_out, plan, policy, those[k : k + AT_ONCE], seed): (policy, k)
        for policy, those in settings.items()
        for k in range(0, len(those), AT_ONCE)
    }
    parts: dict[tuple[str, int], list[Row]] = {}
    for future in _each(futures, lambda n: tell("tuning", n, len(futures))):
        parts[futures[future]] = future.result()
    tried = {
        policy: [row for key in sorted(parts) if key[0] == policy for row in parts[key]]
        for policy in peers
    }
    return {policy: best(settings[policy], tried[policy]) for policy in peers}


def _results(
    pool: ProcessPoolExecutor,
    plan: Plan,
    variants: Sequence[Variant],
    seeds: Sequence[int],
    once: Sequence[Variant],
    tell: Tell,
) -> dict[tuple[Variant, int], Result]:
    futures = {
        pool.submit(run, plan, variant, seed): (variant, seed)
        for variant in variants
        for seed in (seeds[:SHARED_SEEDS] if _is_once(variant, once) else seeds)
    }
    done: dict[tuple[Variant, int], Result] = {}
    for future in _each(futures, lambda n: tell("runs", n, len(futures))):
        done[futures[future]] = future.result()
    return done


def _is_once(variant: Variant, once: Sequence[Variant]) -> bool:
    return variant in once or variant.variant.endswith(SHARES)


def _each(futures: Collection[Future[T]], tell: Callable[[int], None]) -> Iterator[Future[T]]:
    tell(0)
    waiting = set(futures)
    while waiting:
        done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
        yield from done
        tell(len(futures) - len(waiting))


@contextmanager
def _pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Yield the workers; whatever happens, none of them outlives the block."""
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs or cores(), context, initializer=_ignore_interrupts)
    try:
        yield pool
    except BaseException:
        workers = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()
        raise
    pool.shutdown()


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent, which ends its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
