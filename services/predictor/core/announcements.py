"""What was announced of all models, as a worker keeps it for the sources that will need it.

A source that begins, or that names a new model, learns from here what was said before. So does one
that was there: each takes in what has changed. Nothing here sees a sample; what comes of a lift is
the business of `triggers.py`.
"""

from collections.abc import Container
from typing import Literal

from services.predictor.core.triggers import NOTHING_KNOWN, Lift, Plan, announce

MODELS_MAX = 10_000
KEPT = 64  # of a model; more than are ever ahead, so that a day of them can be learned from

Announced = dict[str, tuple[Lift, ...]]  # by model, each by the time it begins
NOTHING_ANNOUNCED: Announced = {}
Outcome = Literal["taken", "late", "repeated", "changed", "crowded_out", "unknown_model"]


def post(
    announced: Announced, model: str, lift: Lift, said_ms: int, declared: Container[str]
) -> tuple[Announced, Outcome]:
    """Take in a lift that was announced at `said_ms`, and say what it was.

    One that began before it was said is late, and counts all the same; so does one of a model that
    nobody has declared yet. Where there is no room, what is over goes first, then the farthest; of
    models, one that is not declared, then the one that was named first.
    """
    before = announced.get(model, ())
    if lift in before:
        return announced, "repeated"
    kept = [old for old in before if old[:2] != lift[:2]]
    after = sorted([*kept, lift], key=lambda one: (one.at_ms, one.kind))
    outcome: Outcome = "changed" if len(kept) < len(before) else "taken"
    if len(after) > KEPT:
        over = after[0].until_ms <= said_ms
        del after[0 if over else -1]
        outcome = outcome if over else "crowded_out"
    elif outcome == "taken" and lift.at_ms < said_ms:
        outcome = "late"
    rest = {**announced, model: tuple(after)}
    if len(rest) > MODELS_MAX:
        unknown = (name for name in announced if name not in declared)
        del rest[next(unknown, next(iter(rest)))]
    return rest, outcome if model in declared else "unknown_model"


def learn(
    plans: dict[str, Plan], models: Container[str], was: Announced, now: Announced
) -> dict[str, Plan]:
    """Return a source's plans of its models with what has been announced since; itself: nothing."""
    changed = [name for name, lifts in now.items() if lifts is not was.get(name)]
    mine = [name for name in changed if name in models]
    if not mine:
        return plans
    learned = dict(plans)
    for name in mine:
        plan = learned.get(name, NOTHING_KNOWN)
        for lift in now[name]:
            plan, _ = announce(plan, lift)
        learned[name] = plan
    return learned
