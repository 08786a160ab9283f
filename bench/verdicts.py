"""What the suite says of ours: each figure beside what it should reach, from rows alone.

The peer to compare with is the cheapest by itself that attains 99.5 %; where none does, the static
fleet that attains most. GPUs are GPU-hours / hours of the judged part.
"""

from collections.abc import Sequence
from math import exp, log
from typing import Any, NamedTuple

from bench.compare import OURS, TARGET, Line, cheapest, lines, ours_of, ratio
from bench.outcome import Row

# Of the charge of the peer, by the kind of load.
OF_PEER = {"smooth": 0.95, "bursty": 0.75, "very bursty": 0.40}
OF_PEERS = 0.60  # the geometric mean of all
FEWEST_GPUS = 4.0  # of need, below which smooth load promises nothing
LARGE_GPUS, SMALL_GPUS = 5.0, 3.0
OF_ORACLE_LARGE, OF_ORACLE_VERY_BURSTY, OF_ORACLE_SMALL = 1.30, 1.50, 1.90
REGRET = 0.25  # against the clairvoyant core
TOLERANCE = 0.001  # of attainment, below the peer's
TRAINING = {"smooth": 1.1, "bursty": 1.0, "very bursty": 3.0}  # times the best peer's
BUSY = 0.98


class Verdict(NamedTuple):
    """One figure, and its bound; no bound: it is only shown. None: it cannot be had."""

    name: str
    value: float | None
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def held(self) -> bool | None:
        """Whether the bound holds; None: there is none, or no figure."""
        if self.value is None or (self.at_most is None and self.at_least is None):
            return None
        low = self.at_least is not None and self.value < self.at_least - 1e-9
        return not low and not (self.at_most is not None and self.value > self.at_most + 1e-9)


def verdicts(rows: Sequence[Row], kind: str, need_gpus: float) -> list[Verdict]:
    """Return what one load says: of ours as it is, beside peers and bounds.

    `need_gpus` is the oracle's charge, which says how much may be asked.
    """
    found = lines(rows)
    ours = ours_of(found)
    assert ours is not None, "the suite runs ours"
    peer, alone, shared = _rival(found), _peers(found, False), _peers(found, True)
    bound = next((line for line in found if line.policy == "oracle"), None)
    best = max((line.attained for line in alone), default=0.0)
    return [
        Verdict("attainment", ours.attained, at_least=max(TARGET, best - TOLERANCE)),
        _charge(ours, peer, kind, need_gpus),
        Verdict(
            "charge ÷ oracle",
            _ratio(ours, bound, "gpu_hours_serving"),
            at_most=_of_oracle(kind, need_gpus),
            note=f"{need_gpus:.1f} GPUs of need",
        ),
        Verdict("regret to clairvoyant", ours.mean("regret_vs_clairvoyant"), at_most=REGRET),
        Verdict("busy share", ours.mean("gpu_busy_share"), at_least=BUSY),
        _training("training ÷ best peer", ours, alone, bound, TRAINING[kind]),
        _training("training ÷ best with our shares", ours, shared, bound, 1.0),
        Verdict("TTFT p50, ms", ours.mean("ttft_ms", "p50"), note=_beside(peer, "p50")),
        Verdict("TTFT p99, ms", ours.mean("ttft_ms", "p99"), note=_beside(peer, "p99")),
        Verdict("out of memory", float(sum(r["oom_events"] for r in ours.rows)), at_most=0),
        Verdict("loads and unloads", ours.mean("moves"), at_most=0 if kind == "smooth" else None),
    ]


def of_errors(rows: Sequence[Row]) -> list[tuple[str, list[Verdict]]]:
    """Return what ours did where it believed something wrong, beside ours on the same seed."""
    found = lines(rows)
    ours = ours_of(found)
    wrong = [line for line in found if line.policy == OURS and line is not ours]
    return [
        (
            line.variant,
            [
                Verdict("attainment", line.attained, at_least=TARGET),
                Verdict("charge ÷ ours", _ratio(line, ours, "gpu_hours_serving")),
                Verdict("out of memory", float(sum(r["oom_events"] for r in line.rows)), at_most=0),
            ],
        )
        for line in wrong
    ]


def overall(of_each: Sequence[Sequence[Verdict]]) -> Verdict:
    """Return the geometric mean of the charge against the peers."""
    charges = [v.value for those in of_each for v in those if v.name == "charge ÷ peer" and v.value]
    mean = exp(sum(map(log, charges)) / len(charges)) if charges else None
    return Verdict("charge ÷ peer, geometric mean", mean, at_most=OF_PEERS)


def as_json(verdict: Verdict) -> dict[str, Any]:
    """Return it for `suite.json`."""
    return {**verdict._asdict(), "held": verdict.held}


def _charge(ours: Line, peer: Line | None, kind: str, need_gpus: float) -> Verdict:
    small = kind == "smooth" and need_gpus < FEWEST_GPUS
    note = "no peer was run" if peer is None else f"{peer.name}, {100 * peer.attained:.2f} %"
    bound = None if small else OF_PEER[kind]
    return Verdict("charge ÷ peer", _ratio(ours, peer, "gpu_hours_serving"), bound, note=note)


def _of_oracle(kind: str, need_gpus: float) -> float | None:
    if need_gpus < SMALL_GPUS:
        return OF_ORACLE_SMALL
    if kind == "very bursty":
        return OF_ORACLE_VERY_BURSTY
    return OF_ORACLE_LARGE if need_gpus >= LARGE_GPUS else None


def _training(
    name: str, ours: Line, others: Sequence[Line], bound: Line | None, least: float
) -> Verdict:
    """Compare with the one that trains most, of those that attain as much as ours.

    The note says what the oracle would have: on a fleet much larger than its need no one can train
    many times what another does.
    """
    equal = [line for line in others if line.attained >= ours.attained - TOLERANCE]
    if not equal:
        return Verdict(name, None, note="none attains as much as ours")
    best = max(equal, key=lambda line: line.mean("gpu_hours_training") or 0.0)
    most = _ratio(bound, best, "gpu_hours_training") if bound else None
    note = best.name if most is None else f"{best.name}; the oracle {most:.2f}"
    return Verdict(name, _ratio(ours, best, "gpu_hours_training"), at_least=least, note=note)


def _rival(found: Sequence[Line]) -> Line | None:
    alone = _peers(found, False)
    static = [line for line in alone if line.policy == "static"]
    return cheapest(alone, TARGET) or max(static, key=lambda line: line.attained, default=None)


def _peers(found: Sequence[Line], shared: bool) -> list[Line]:
    return [line for line in found if line.is_peer and line.is_shared == shared]


def _ratio(line: Line, base: Line | None, *path: str) -> float | None:
    return None if base is None else ratio(line, base, *path)


def _beside(peer: Line | None, which: str) -> str:
    value = None if peer is None else peer.mean("ttft_ms", which)
    return "" if peer is None or value is None else f"{peer.name}: {value:.0f}"
