"""Who wins where, and why, in sentences that are written from the figures alone.

A reader who sees nothing else should not be misled: where ours loses, that is what stands there.
GPUs are GPU-hours / hours of the judged part.
"""

from collections.abc import Sequence
from statistics import median

from bench.compare import TARGET, Line, cheapest, frontier, ours_of, ratio

# Differences below these are none: a hundredth of a charge, a tenth of a point of attainment.
SAME_CHARGE, SAME_SHARE = 0.01, 0.001
HEADLINE = (
    ("busy share of the fleet", ("gpu_busy_share",)),
    ("useful work", ("useful_work_share",)),
    ("p99 latency", ("latency_ms", "p99")),
    ("p99 TTFT", ("ttft_ms", "p99")),
    ("goodput per dollar", ("goodput_per_usd",)),
)


def headline(found: Sequence[Line]) -> str:
    """Return ours as ratios to the static fleet that is sized for its peak."""
    ours = ours_of(found)
    static = [line for line in found if line.policy == "static"]
    if ours is None or not static:
        return "No headline: it takes `ours` and `static`."
    base = cheapest(static, TARGET)
    sized = f"the smallest with {_percent(TARGET)}"
    if base is None:
        base, sized = max(static, key=lambda line: line.charge_h), "the largest there is"
    figures = [f"{name} {_times(ratio(ours, base, *path))}" for name, path in HEADLINE]
    return (
        f"Ours against the static fleet sized for its peak ({base.variant}, {sized}): "
        f"{', '.join(figures)}."
    )


def sentences(found: Sequence[Line], hours: float) -> list[str]:
    """Return three sentences: who wins, what our shares gain alone, and what our counts add.

    `hours` is the length of the judged part.
    """
    ours = ours_of(found)
    if ours is None:
        return ["Ours was not run, so there is nothing to compare it with."]
    return [_winner(found, ours, hours), _shares(found, hours), _counts(found, ours, hours)]


def standing(found: Sequence[Line], hours: float) -> list[str]:
    """Return where ours stands to the two frontiers of the peers."""
    ours = ours_of(found)
    peers = [line for line in found if line.is_peer]
    said = []
    for name, those in (
        ("The peers by themselves", [line for line in peers if not line.is_shared]),
        ("Their counts with our shares", [line for line in peers if line.is_shared]),
    ):
        if not those:
            continue
        edge = [
            f"{_percent(p.attained)} {p.name} {p.charge_h / hours:.1f}" for p in frontier(those)
        ]
        text = f"{name}, the least GPUs at each attainment: {'; '.join(edge)}."
        if ours is not None:
            at_ours = _matching(those, ours)
            text += f" Ours, {_percent(ours.attained)} with {ours.charge_h / hours:.1f}: "
            text += f"{_against(ours, at_ours)} as much attainment"
            text += f"; {_against(ours, cheapest(those, TARGET))} {_percent(TARGET)}."
        said.append(text)
    return said


def _winner(found: Sequence[Line], ours: Line, hours: float) -> str:
    peers = [line for line in found if line.is_peer and not line.is_shared]
    if not peers:
        return "No peer was run."
    best = cheapest(peers, TARGET)
    mine = f"{_percent(ours.attained)} with {_gpus(ours, hours)}"
    if best is None:
        highest = max(peers, key=lambda line: line.attained)
        theirs = f"the best of the peers, {_line(highest, hours)}"
        if ours.attained >= TARGET:
            return f"Ours wins, as no peer attains {_percent(TARGET)}: {mine}; {theirs}."
        first = "ours is ahead" if ours.attained > highest.attained else "ours is behind"
        return f"Nobody attains {_percent(TARGET)}, and {first}, with {mine}; {theirs}."
    times = ratio(ours, best, "gpu_hours_serving") or 0.0
    theirs = f"the cheapest peer there, {_line(best, hours)}"
    if ours.attained < TARGET:
        return (
            f"Ours loses where {_percent(TARGET)} must be held, as it misses that: it has {mine}, "
            f"{times:.2f} times the charge of {theirs}."
        )
    verdict = "wins" if times < 1 - SAME_CHARGE else "loses" if times > 1 + SAME_CHARGE else "ties"
    return (
        f"At {_percent(TARGET)} or more ours {verdict}: {mine}, {times:.2f} times the charge of "
        f"{theirs}."
    )


def _shares(found: Sequence[Line], hours: float) -> str:
    by = {(line.policy, line.variant): line for line in found}
    pairs = [
        (line.beside(shared), shared)
        for (policy, variant), line in by.items()
        if variant == "default" and (shared := by.get((policy, "default+shares"))) is not None
    ]
    if not pairs:
        return "What our shares gain by themselves was not run."
    points = median(shared.attained - line.attained for line, shared in pairs)
    times = [shared.charge_h / line.charge_h for line, shared in pairs if line.charge_h]
    trained = median(
        ((shared.mean("gpu_hours_training") or 0) - (line.mean("gpu_hours_training") or 0)) / hours
        for line, shared in pairs
    )
    verdict = _verdict(median(times), points)
    return (
        f"Our router and shares alone, on the counts of {_count(len(pairs))} untuned, {verdict}: "
        f"in the median {_points(points)} of attainment, {median(times):.2f} times the charge "
        f"({min(times):.2f} to {max(times):.2f}), {trained:+.1f} GPUs of training."
    )


def _counts(found: Sequence[Line], ours: Line, hours: float) -> str:
    shared = [line for line in found if line.is_shared]
    if not shared:
        return "What our own counts add to our shares was not run."
    best = _matching(shared, ours) or max(shared, key=lambda line: line.attained)
    mine = ours.beside(best)
    times = mine.charge_h / best.charge_h if best.charge_h else 0.0
    points = mine.attained - best.attained
    text = (
        f"Beyond that, our forecast and placement {_verdict(times, points)} against the best of "
        f"these, {_line(best, hours)}: {_points(points)} of attainment, {times:.2f} times the "
        "charge"
    )
    known = next((line for line in found if line.policy == "clairvoyant"), None)
    if known is not None:
        left = ratio(known, ours, "gpu_hours_serving") or 0.0
        change = known.beside(ours).attained - ours.beside(known).attained
        text += f"; to know the future would give {_points(change)} and {left:.2f} times the charge"
    return text + "."


def _matching(lines: Sequence[Line], ours: Line) -> Line | None:
    """Return the cheapest of those that attain as much as ours does on their seeds."""
    good = [line for line in lines if line.attained >= ours.beside(line).attained - 1e-9]
    return min(good, key=lambda line: line.charge_h, default=None)


def _verdict(times: float, points: float) -> str:
    cheaper, dearer = times < 1 - SAME_CHARGE, times > 1 + SAME_CHARGE
    better, worse = points > SAME_SHARE, points < -SAME_SHARE
    if (cheaper and worse) or (dearer and better):
        return "trade one for the other"
    if cheaper or better:
        return "gain"
    return "lose" if dearer or worse else "change nothing"


def _against(ours: Line, peer: Line | None) -> str:
    if peer is None:
        return "no peer here has"
    times = ratio(ours, peer, "gpu_hours_serving")
    return f"{_times(times)} the charge of {peer.name}, the cheapest with"


def _line(line: Line, hours: float) -> str:
    return f"{line.name}, with {_percent(line.attained)} and {_gpus(line, hours)}"


def _gpus(line: Line, hours: float) -> str:
    trains = (line.mean("gpu_hours_training") or 0.0) / hours
    return f"{line.charge_h / hours:.1f} GPUs serving and {trains:.1f} training"


def _count(peers: int) -> str:
    return "one peer" if peers == 1 else f"{peers} peers"


def _percent(share: float) -> str:
    # Cut, not rounded: 99.498 % must not read as the 99.5 % that it misses.
    return f"{int(share * 10_000 + 1e-6) / 100:g} %"


def _points(share: float) -> str:
    return f"{100 * share:+.2f} points"


def _times(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.2f} ×"
