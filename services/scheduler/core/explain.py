"""Why: for each model whose decision changed, one sentence and the numbers behind it.

Said on change only, so that what is written can be read. Nothing here decides.
"""

from typing import NamedTuple

import numpy as np

from libs.common.messages import Explanation, SetBatch
from services.scheduler.core.commands import Command
from services.scheduler.core.contracts import DRAINING, Observation, State
from services.scheduler.core.foreign import Foreign, by_model
from services.scheduler.core.heart import Found
from services.scheduler.core.moves import Move
from services.scheduler.core.policy import Policy
from services.scheduler.core.replicas import Replicas, positions
from services.scheduler.core.targets import Targets


class Facts(NamedTuple):
    """All that a tick found out, as far as a person may ask for it."""

    before: State
    after: State
    seen: Observation
    replicas: Replicas
    found: Found
    targets: Targets | None  # on placement ticks alone
    moves: tuple[Move, ...]
    commands: list[Command]
    foreign: Foreign


def explanations(facts: Facts, policy: Policy) -> tuple[Explanation, ...]:
    """Return what is to be said of this tick, at most `explanations_max`."""
    said = _overrides(facts) + _foreign(facts)
    for m in _to_say(facts):
        if len(said) >= policy.explanations_max:
            break
        said += _hold(m, facts) + _scale(m, facts, policy) + _batch(m, facts, policy)
        said += _theta(m, facts)
    return tuple(said[: policy.explanations_max])


def _overrides(facts: Facts) -> list[Explanation]:
    """Return what people have set since the last tick, and what of it is over."""
    before, now = set(facts.before.overrides), set(facts.after.overrides)
    said = [(text, "operator", "") for text in sorted(now - before)]
    replaced = {_target(text) for text, _, _ in said}
    ended = [text for text in sorted(before - now) if _target(text) not in replaced]
    said += [(text, "operator_ended", ", which is over") for text in ended]
    seen = facts.seen
    return [
        Explanation(
            model=_target(text),
            epoch=seen.epoch,
            tick=seen.tick,
            at_ms=seen.now_ms,
            action="override",
            text=f"{text}{over}",
            bound=bound,
            numbers={},
        )
        for text, bound, over in said
    ]


def _foreign(facts: Facts) -> list[Explanation]:
    seen = facts.seen
    appeared, vanished = by_model(facts.foreign.appeared), by_model(facts.foreign.vanished)
    said = []
    for model in sorted({*appeared, *vanished}):
        came, went = appeared.get(model, []), vanished.get(model, [])
        parts = [f"{', '.join(came)} came without an order"] * bool(came)
        parts += [f"{', '.join(went)} went without an order, or died"] * bool(went)
        said.append(
            Explanation(
                model=model,
                epoch=seen.epoch,
                tick=seen.tick,
                at_ms=seen.now_ms,
                action="foreign",
                text=f"{model}: {'; '.join(parts)}: does something else scale this model?",
                bound="foreign",
                numbers={"appeared": float(len(came)), "vanished": float(len(went))},
            )
        )
    return said


def _target(override: str) -> str:
    return override.partition(": ")[0]


def _override_of(target: str, facts: Facts) -> str:
    """Return what a person has set of a target: `paused by ada until ...`."""
    found = (text for text in facts.seen.overrides if _target(text) == target)
    return next(found, "").partition(": ")[2]


def _to_say(facts: Facts) -> list[int]:
    """Return the models of which there is something to say, in order."""
    models: list[int] = facts.found.to_say.tolist()
    if facts.targets is not None:
        before, after = facts.before, facts.after
        new = (before.target != after.target) | (before.short != after.short)
        at = positions(facts.seen.models)
        moved = (at[move.model] for move in facts.moves if move.model in at)
        models = sorted({*models, *moved, *np.flatnonzero(new).tolist()})
    return models


def _hold(m: int, facts: Facts) -> list[Explanation]:
    held = bool(facts.after.held[m])
    if held == bool(facts.before.held[m]):
        return []
    seen = facts.seen
    numbers = {
        "newest_sample_age_ms": _age_ms(seen.newest_sample_ms[m], seen.now_ms),
        "overdue_ms": _age_ms(seen.next_by_ms[m], seen.now_ms),
    }
    if not held:
        return [_say(m, facts, "hold", "demand", "a forecast is here: decisions go on", numbers)]
    if facts.found.demand.known[m]:
        what = "no node says what is on it"
    elif seen.next_by_ms[m] >= 0:
        what = f"the forecast is {numbers['overdue_ms']:.0f} ms overdue"
    else:
        what = "no forecast yet"
    text = f"{what}: everything stays as it is, and nothing shrinks"
    return [_say(m, facts, "hold", "no_data", text, numbers)]


def _scale(m: int, facts: Facts, policy: Policy) -> list[Explanation]:
    targets, seen, before, after = facts.targets, facts.seen, facts.before, facts.after
    if targets is None:
        return []
    moves = [move for move in facts.moves if move.model == seen.models[m]]
    target, was = int(after.target[m]), int(before.target[m])
    if target == was and not moves and bool(after.short[m]) == bool(before.short[m]):
        return []
    those = (facts.replicas.model == m) & (facts.replicas.stage != DRAINING)
    count = int(those.sum())
    load, each = float(targets.load_rps[m]), float(targets.nominal_rps[m])
    numbers = {
        "arrival_rate_rps": seen.arrival_rate_rps[m],
        "queue_requests": seen.queue_requests[m],
        "demand_rps": facts.found.demand.placed_rps[m],
        "foreseen_rps": facts.found.demand.foreseen_rps[m],
        "foreseen_quantile": policy.quantile,
        "foreseen_median_rps": facts.found.demand.median_rps[m],
        "replica_capacity_rps": each,
        "replicas": count,
        "standbys": max(0, count - target),
        "target": target,
        "wanted": targets.wanted[m],
        # What was rejected: the target on a larger fleet, the one of the demand seen now alone, and
        # that of a guess at the median.
        "target_on_a_larger_fleet": targets.target[m],
        "target_without_forecast": _replicas(facts.found.demand.placed_rps[m], each),
        "target_at_median": _replicas(facts.found.demand.median_rps[m], each),
        "cost_gpus": target * seen.gpus[m],
    }
    loads = sum(not move.is_drain for move in moves)
    change = f"{was} -> {target}" if was not in (-1, target) else f"{target}"
    parts = [f"{change} replica{'' if target == 1 else 's'}"]
    if np.isfinite(load):
        parts.append(
            f"for {load:.1f} requests/s ({seen.arrival_rate_rps[m]:.1f} arrive now), of which one "
            f"replica carries {each:.1f}"
        )
    parts += [f"{count - target} more standing by"] * (count > target)
    parts += [f"{loads} to load"] * (loads > 0) + [f"{len(moves) - loads} to drain"] * (
        len(moves) > loads
    )
    if seen.pinned[m]:
        parts.append(f"as it is {_override_of(seen.models[m], facts)}")
    if after.short[m]:
        parts.append(f"as the fleet can hold {target} of the {targets.target[m]} wanted")
    text = ", ".join(parts)
    stands_by = target == was and loads > 0 and count > target
    bound = "standby" if stands_by else _bound(m, facts, targets)
    return [_say(m, facts, "scale", bound, text, numbers)]


def _bound(m: int, facts: Facts, targets: Targets) -> str:
    seen, wanted, target = facts.seen, targets.wanted[m], facts.after.target[m]
    foreseen, now = facts.found.demand.foreseen_rps[m], facts.found.demand.placed_rps[m]
    rows = (
        ("fleet", facts.after.short[m]),
        ("operator", seen.pinned[m]),
        ("replicas_max", wanted > seen.replicas_max[m]),
        ("replicas_min", wanted < seen.replicas_min[m] and target == seen.replicas_min[m]),
        ("no_data", not facts.found.demand.known[m]),
        ("shrink_hold", target > wanted),
        ("forecast", foreseen > now),
    )
    return next((bound for bound, holds in rows if holds), "demand")


def _batch(m: int, facts: Facts, policy: Policy) -> list[Explanation]:
    r = int(facts.found.batch_said[m])
    if r < 0:
        return []
    now, was, capacity = facts.found.shares, facts.replicas, facts.found.capacity
    known = facts.found.demand.known[m]
    batch, wait = int(now.batch_size[r]), float(now.wait_ms[r])
    service = capacity.alpha_ms[r] + capacity.beta_ms[r] * batch
    objective = float(facts.seen.objective_ms[m])
    numbers = {
        "demand_rps": facts.found.demand.now_rps[m],
        "demand_recent_rps": facts.found.demand.recent_rps[m],
        "demand_mean_rps": facts.found.demand.mean_rps[m],
        "queue_requests": facts.seen.queue_requests[m],
        "batch_size": batch,
        "batch_size_before": was.batch_size[r],
        "wait_ms": wait,
        "service_ms": service,
        "worst_latency_ms": 2 * service + wait,
        "budget_ms": policy.batch_margin * objective,
        "batch_by_memory": capacity.memory_limit[r],
        "batch_by_objective": capacity.latency_limit[r],
        "batch_by_model": facts.seen.batch_max[m],
        "replicas_needed": now.needed[m],
    }
    rows = (
        ("no_data", not known),
        ("memory", batch == capacity.memory_limit[r] < facts.seen.batch_max[m]),
        ("objective", batch == capacity.latency_limit[r]),
        ("batch_max", batch == facts.seen.batch_max[m]),
    )
    bound = next((name for name, holds in rows if holds), "demand")
    peak = f"up to {numbers['demand_recent_rps']:.1f} requests/s of late"
    load = peak if known else "an unknown load"
    text = (
        f"batches of up to {batch} (before: {int(was.batch_size[r])}), waiting {wait:.0f} ms, for "
        f"{load}; just missing one batch and taking the next lasts "
        f"{numbers['worst_latency_ms']:.0f} ms of {objective:.0f}"
    )
    return [_say(m, facts, "batch", bound, text, numbers)]


def _theta(m: int, facts: Facts) -> list[Explanation]:
    now, was = float(facts.after.theta_said[m]), float(facts.before.theta_said[m])
    if now == was:
        return []
    ratio = float(facts.seen.slo_ratio_p98[m])
    way = "so replicas wake earlier" if now < was else "so load packs on fewer replicas"
    text = f"theta {was:.2f} -> {now:.2f}, as p98 is at {ratio:.2f} of the objective: {way}"
    numbers = {"theta": now, "theta_before": was, "slo_ratio_p98": ratio}
    return [_say(m, facts, "theta", "measured_latency", text, numbers)]


def _say(
    m: int, facts: Facts, action: str, bound: str, text: str, numbers: dict[str, float]
) -> Explanation:
    seen = facts.seen
    return Explanation(
        model=seen.models[m],
        epoch=seen.epoch,
        tick=seen.tick,
        at_ms=seen.now_ms,
        action=action,
        text=f"{seen.models[m]}: {text}",
        bound=bound,
        # What is not known is absent, not zero.
        numbers={name: float(value) for name, value in numbers.items() if np.isfinite(value)},
        commands=tuple(_ids(m, facts, action)),
    )


def _ids(m: int, facts: Facts, action: str) -> list[str]:
    """Return the commands by which a model's batches were set, or its replicas."""
    if action not in ("batch", "scale"):
        return []
    return [
        command.id
        for command in facts.commands
        if command.model == facts.seen.models[m]
        and isinstance(command, SetBatch) == (action == "batch")
    ]


def _replicas(rate_rps: float, each_rps: float) -> float:
    return float(np.ceil(rate_rps / each_rps)) if each_rps > 0 else float("nan")


def _age_ms(at_ms: int, now_ms: int) -> float:
    return float(now_ms - at_ms) if at_ms >= 0 else float("nan")
