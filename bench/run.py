"""One run: a scenario's load for one seed, played on the fleet under one policy."""

import gc
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from bench.bounds import in_due_order, oracle_gpu_s
from bench.full import Full
from bench.load import Load, load_of
from bench.outcome import Ended, Row, Used, oracle_row, percentiles, row_of, useful_ms
from bench.peers import Variant, make
from bench.places import place_of
from bench.policies.policy import Policy, Setting
from bench.scenario import Scenario
from bench.sizing import DRAIN_MS, place_first
from bench.window import Window, judged_on
from libs.fleet.model import FleetModel

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SECOND_MS = 1000.0
RATIO_EDGES: Floats = np.geomspace(1 / 64, 16, 121)  # of latency / objective, for pictures
# Of the accounts, what adds up over time.
SUMS = (
    *("serving_ms", "training_ms", "free_ms", "down_ms", "busy_serving_ms", "busy_training_ms"),
    *("switching_ms", "loading_ms", "steps", "oom", "standby_byte_ms"),
)


class Plan(NamedTuple):
    """A scenario made ready: what all its runs share."""

    scenario: Scenario
    full: dict[str, Full]
    first: dict[str, int]  # replicas that are in place at the start, by model


class Series(NamedTuple):
    """What a picture needs of a run, once a second; (seconds,) or (seconds, models)."""

    arrivals: Ints
    queue: Ints
    ready: Ints  # replicas that serve or could
    serving_gpus: Floats
    training_gpus: Floats
    charge_ms: Floats  # of the window, by kind: serving busy, serving not busy, training, free
    ratios: Ints  # (models, buckets): requests of the window by latency / objective; last: missed


class Result(NamedTuple):
    """What came of a run."""

    row: Row
    series: Series | None  # None: the oracle's


def run(plan: Plan, variant: Variant, seed: int) -> Result:
    """Play one run and judge it. The same arguments give the same result, `decide_us` aside.

    Raises:
        ContractError: the load cannot be read.
    """
    scenario = plan.scenario
    load = load_of(scenario, seed)
    window = judged_on(scenario, load)
    parts = in_due_order(load, oracle_gpu_s(scenario, load, window.begin_s))
    if variant.policy == "oracle":
        row = _head(scenario, variant, seed, window) | _oracle(scenario, load, window, parts)
        return Result(row, None)
    return play(plan, variant, seed, load, window, parts)


def play(
    plan: Plan, variant: Variant, seed: int, load: Load, window: Window, parts: Floats
) -> Result:
    """Play a load until the window's end, and reckon what came of that window.

    `parts` is the oracle's charge of each request, (requests,), in due order.
    """
    policy = make(variant, Setting(plan.scenario, plan.full, load, seed))
    gc.collect()
    head = _head(plan.scenario, variant, seed, window)
    return _Run(plan, load, window, parts, policy).result(head)


def _head(scenario: Scenario, variant: Variant, seed: int, window: Window) -> Row:
    return {
        "scenario": scenario.name,
        "policy": variant.policy,
        "variant": variant.variant,
        "seed": seed,
        "judged_from_s": round(window.begin_s, 3),
        "judged_until_s": round(window.end_s, 3),
    }


def _oracle(scenario: Scenario, load: Load, window: Window, parts: Floats) -> Row:
    requests = load.requests()
    judged = requests.due_ms >= SECOND_MS * window.begin_s
    devices = scenario.fleet.devices()
    # On one type of device this is exact; of several, the cheapest keeps the cost a bound.
    price = min(device.price_usd_per_hour for device in devices)
    row = oracle_row(
        requests.model[judged], parts[judged], scenario.models, len(devices), window.seconds, price
    )
    return {**row, "decide_us": {"p50": None, "p99": None}}


class _Run:
    """The state of one run, moved from waking to waking."""

    def __init__(
        self, plan: Plan, load: Load, window: Window, parts: Floats, policy: Policy
    ) -> None:
        scenario = plan.scenario
        self._plan, self._load, self._parts, self._policy = plan, load, parts, policy
        self._specs = scenario.models
        self._begin_ms, self._end_ms = SECOND_MS * window.begin_s, SECOND_MS * window.end_s
        self._fleet = FleetModel(scenario.fleet, self._specs, switch_ms=scenario.switch_ms)
        place_first(self._fleet, self._specs, plan.first)
        self._fleet.submit(load.requests())
        self._second = 0
        self._rows: list[tuple[Ints, Ints, float, float]] = []
        self._charge_ms = np.zeros(len(self._specs))
        self._account = self._fleet.accounts()

    def result(self, head: dict[str, Any]) -> Result:
        """Play it all."""
        fleet = self._fleet
        self._wake_ms = self._policy.start(fleet)
        self._play(self._begin_ms)
        before, work_before, counts_before = fleet.accounts(), fleet.work(), fleet.models.copy()
        self._play(self._end_ms)
        after, work_after, counts = fleet.accounts(), fleet.work(), fleet.models.copy()
        decided = len(self._policy.decide_us)
        self._drain()
        used = self._used(before, after)
        done = work_after.copy()
        for field in done.dtype.names or ():
            done[field] -= work_before[field]
        loads, unloads, preemptions, migrations = (
            int((counts[f] - counts_before[f]).sum())
            for f in ("loads", "unloads", "preemptions", "migrations")
        )
        ended, ratios = self._ended()
        window_s = (self._end_ms - self._begin_ms) / SECOND_MS
        useful = useful_ms(done, self._specs, fleet.device_types)
        row = {
            **head,
            **row_of(ended, used, self._specs, self._charge_ms, useful, window_s),
            "moves": loads + unloads,
            "kv_preemptions": preemptions,
            "kv_migrations": migrations,
            "decide_us": percentiles(np.array(self._policy.decide_us[:decided])),
        }
        return Result(row, self._series(used, ratios))

    def _play(self, until_ms: float) -> None:
        """Wake the policy when it wants to be, and take notes each second."""
        fleet = self._fleet
        while fleet.now_ms < until_ms:
            note_ms = (self._second + 1) * SECOND_MS if fleet.now_ms < self._end_ms else until_ms
            fleet.advance(min(until_ms, self._wake_ms, note_ms))
            if fleet.now_ms >= self._wake_ms:
                self._wake_ms = self._policy.wake(fleet)
            if note_ms <= fleet.now_ms <= self._end_ms:
                self._note()

    def _drain(self) -> None:
        """Go on for 60 s at most, until nothing is open; what is left is missed."""
        until_ms = self._end_ms + DRAIN_MS
        while self._fleet.now_ms < until_ms and (self._fleet.requests["status"] == 0).any():
            self._play(self._fleet.now_ms + SECOND_MS)
        self._fleet.finish()

    def _note(self) -> None:
        fleet = self._fleet
        account = fleet.accounts()
        serving_ms = account["serving_ms"] - self._account["serving_ms"]
        training_ms = account["training_ms"] - self._account["training_ms"]
        self._account = account
        self._second += 1
        ready = np.zeros(len(self._specs), np.int64)
        # By GPU, whose requests and whose replicas are there.
        held = np.zeros((len(serving_ms), len(self._specs)))
        there = np.zeros_like(held)
        for name in fleet.replicas:
            view = fleet.replica(name)
            m = fleet.model_index[view.model]
            ready[m] += view.state == "resident"
            if view.state == "host":
                continue
            node, gpus = place_of(name)
            rows = [fleet.gpu_index[f"{node}/{gpu}"] for gpu in gpus]
            held[rows, m] += view.held
            there[rows, m] += 1
        if fleet.now_ms > self._begin_ms:
            # A GPU's charge is that of the models whose requests it holds, else of those it keeps.
            weight = np.where(held.sum(axis=1, keepdims=True) > 0, held, there)
            total = weight.sum(axis=1)
            share = weight / np.where(total > 0, total, 1)[:, None]
            self._charge_ms += serving_ms @ share
        queue = fleet.models["queue"].astype(np.int64)
        part = (float(serving_ms.sum()), float(training_ms.sum()))
        self._rows.append((queue, ready, *part))

    def _used(self, before: npt.NDArray[Any], after: npt.NDArray[Any]) -> Used:
        kinds = [(name, np.float64) for name in SUMS]
        accounts = np.zeros(len(after), kinds)
        for name in SUMS:
            accounts[name] = after[name] - before[name]
        devices = self._fleet.devices
        memory = np.array([device.memory_bytes for device in devices], np.float64)
        price = np.array([device.price_usd_per_hour for device in devices])
        return Used(accounts, memory, price)

    def _ended(self) -> tuple[Ended, Ints]:
        fleet = self._fleet
        table = fleet.requests
        judged = (table["due_ms"] >= self._begin_ms) & (table["due_ms"] < self._end_ms)
        model = table["model"][judged].astype(np.int64)
        llm = np.array([spec.kind == "llm" for spec in self._specs], np.bool_)[model]

        def times(of: Floats) -> Floats:
            return np.where(of[judged] >= 0, of[judged], np.inf)

        latency, ttft, tpot = times(fleet.latency_ms()), times(fleet.ttft_ms()), fleet.tpot_ms()
        served = times(tpot)
        ended = Ended(
            model,
            table["status"][judged] == 1,
            latency,
            np.where(llm, ttft, np.nan),
            np.where(llm, served, np.nan),
            self._parts[judged],
        )
        objective = [spec.objective for spec in self._specs]
        latency_by = np.array([o.latency_ms for o in objective])[model]
        pace_by = np.array([o.tpot_ms or 1.0 for o in objective])[model]
        first_by = np.array([o.ttft_ms or 1.0 for o in objective])[model]
        ratio = np.where(llm, np.maximum(ttft / first_by, served / pace_by), latency / latency_by)
        bucket = np.searchsorted(RATIO_EDGES, ratio)
        ratios = np.zeros((len(self._specs), len(RATIO_EDGES) + 1), np.int64)
        np.add.at(ratios, (model, bucket), 1)
        return ended, ratios

    def _series(self, used: Used, ratios: Ints) -> Series:
        table = self._fleet.requests
        seconds, count = len(self._rows), len(self._specs)
        arrivals = np.zeros((seconds, count), np.int64)
        second = (table["due_ms"] // SECOND_MS).astype(np.int64)
        inside = second < seconds
        np.add.at(arrivals, (second[inside], table["model"][inside]), 1)
        a = used.accounts
        serving, busy = float(a["serving_ms"].sum()), float(a["busy_serving_ms"].sum())
        split = [busy, serving - busy, float(a["training_ms"].sum()), float(a["free_ms"].sum())]
        return Series(
            arrivals,
            np.array([row[0] for row in self._rows]),
            np.array([row[1] for row in self._rows]),
            np.array([row[2] for row in self._rows]) / SECOND_MS,
            np.array([row[3] for row in self._rows]) / SECOND_MS,
            np.array(split),
            ratios,
        )
