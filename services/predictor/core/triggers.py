"""What is known ahead of a model's load: lifts announced, those that recur, and how much came.

A `Plan` holds the lifts of one model that are ahead or running, from one source's point of view.
`announce` takes in what somebody said, `advance` what was then seen. Of each kind it is remembered
what part of the lift that was said has come, the last eight times: that is the gain. Times are
those of the samples; nothing here knows what time it is. How lifts change a forecast is the
business of `lifts.py`.
"""

from math import ceil, isnan, nan, sqrt
from typing import Literal, NamedTuple

import numpy as np

from libs.common.errors import ContractError
from libs.common.messages import LoadTrigger
from services.predictor.core.columns import Floats, Ints

KINDS = ("cron", "warning", "app")
DAY_MS = 86_400_000
AHEAD_MS_MAX = 8 * DAY_MS  # next week's run may be announced when this week's is over
LIFTS_MAX = 32  # of a model, ahead or running; beyond, the farthest goes
PAST = 16  # announced times of a kind that are remembered, to find a period in them
PERIOD_MS_MIN = 60_000
TOLERANCE_MS = 10_000  # of a period as it recurs, but no more than
TOLERANCE_SHARE = 0.02  # of the period itself: chance would find one in anything
MISSES_MAX = 2  # times in a row that what recurs did not come: then it recurs no more
CAME = 0.3  # the part of a lift that must have come for it to have come at all

GAINS = 8  # observations of each kind; they begin as 1, so that one alone hardly moves the median
GAIN_MAX = 3.0
LEARN_MS = 300_000  # of a lift, what is judged: later, what would have come without is not known
BEGIN_LATE_MS = 5000  # seen first when it ran for longer, what came before it is not known
SETTLED_MS = 15_000  # a level takes 10 s to move onto a new one
DISPERSION = 2.0  # of arrivals, as guessed for whether a lift stands out at all

Outcome = Literal["taken", "repeated", "changed", "late", "crowded_out"]


class Lift(NamedTuple):
    """One lift. What is said is either a rate or a factor; the other is 0."""

    kind: int  # into KINDS
    at_ms: int
    until_ms: int
    rate_rps: float
    factor: float
    announced: bool = True  # False: foreseen, since it recurs
    period_ms: int = 0  # 0: it does not recur
    misses: int = 0  # in a row, of those before it
    base_rps: float = nan  # what was foreseen without it when it began; NaN: not begun, or not seen
    came: float = 0.0  # arrivals in its first LEARN_MS, as far as they are known
    known_ms: float = 0.0  # for how much of that they are


class Plan(NamedTuple):
    """What is known ahead of one model."""

    lifts: tuple[Lift, ...]  # by the time they begin
    past_ms: Ints  # when those announced begin, (KINDS, PAST), rising; 0: none
    gains: Floats  # the part that came, (KINDS, GAINS), newest last
    seen_ms: int = 0  # time of the newest sample


# Plans are never changed in place, so all models may begin with this one.
NOTHING_KNOWN = Plan((), np.zeros((len(KINDS), PAST), dtype=np.int64), np.ones((len(KINDS), GAINS)))


def read(said: LoadTrigger, said_ms: int) -> Lift:
    """Return the lift that a message announces; it was said at `said_ms`.

    Raises:
        ContractError: it was over before it was said, or lies further ahead than can be known.
    """
    until_ms = said.at_ms + round(1000 * said.duration_s)
    if until_ms <= said_ms:
        raise ContractError(f"the lift ends at {until_ms}, and this was said later, at {said_ms}")
    if said.at_ms > said_ms + AHEAD_MS_MAX:
        days = (said.at_ms - said_ms) / DAY_MS
        raise ContractError(f"at_ms {said.at_ms} is {days:.1f} days ahead; 8 at most")
    rate_rps, factor = said.expected_rate_rps or 0.0, said.factor or 0.0
    return Lift(KINDS.index(said.kind), said.at_ms, until_ms, rate_rps, factor)


def announce(plan: Plan, lift: Lift) -> tuple[Plan, Outcome]:
    """Take in a lift that was announced, and say what it was.

    One of the same kind and time is the same one, as said last. What is over changes nothing, but
    for what can be learned of its period. Where a plan is full, the farthest lift goes, what
    recurs first.
    """
    same = next((old for old in plan.lifts if old.announced and old[:2] == lift[:2]), None)
    if same is not None:
        if same[:5] == lift[:5]:
            return plan, "repeated"
        return _instead(plan, same, _as_said(lift, same)), "changed"
    past_ms = plan.past_ms[lift.kind]
    if lift.at_ms in past_ms:
        return plan, "repeated"
    foreseen = _twin(plan.lifts, lift)
    if foreseen is not None:
        lift = _as_said(lift, foreseen)
    else:
        lift = lift._replace(period_ms=_period_ms(past_ms, lift.at_ms))
    table = plan.past_ms.copy()
    table[lift.kind] = np.sort(np.append(past_ms, lift.at_ms))[1:]
    plan = plan._replace(past_ms=table)
    if lift.until_ms <= plan.seen_ms:
        return plan, "late"
    plan = _instead(plan, foreseen, lift)
    if len(plan.lifts) <= LIFTS_MAX:
        return plan, "taken"
    farthest = max(plan.lifts, key=lambda one: (not one.announced, one.at_ms))
    left = tuple(one for one in plan.lifts if one is not farthest)
    return plan._replace(lifts=left), "crowded_out"


def advance(plan: Plan, now_ms: int, rate_rps: float, grown: float, elapsed_ms: int) -> Plan:
    """Take in one sample: judge the lifts that are over, and begin those whose time has come.

    `rate_rps` is what was foreseen without a lift before this sample; `grown` arrivals came in the
    `elapsed_ms` that end `now_ms`. NaN: not known.
    """
    plan = plan._replace(seen_ms=now_ms)
    if not plan.lifts or plan.lifts[0].at_ms > now_ms:
        return plan
    running, gains, over = [], plan.gains, []
    for lift in plan.lifts:
        seen = _watch(lift, now_ms, rate_rps, grown, elapsed_ms)
        if now_ms < lift.until_ms:
            running.append(seen)
            continue
        gain = gain_of(seen)
        if seen.announced and not isnan(gain):
            gains = _learn(gains, lift.kind, gain)
        over.append((seen, gain))
    for lift, gain in over:
        successor = _successor(lift, gain, now_ms)
        if successor is not None and _twin(running, successor) is None:
            running.append(successor)
    return plan._replace(lifts=_in_order(*running), gains=gains)


def gain_of(lift: Lift) -> float:
    """Return the part of a lift that came, in [0, GAIN_MAX]; NaN: it cannot be told.

    It can where what came is known for half of the time, and what was said would have stood out of
    chance by two standard deviations.
    """
    judged_ms = min(lift.until_ms - lift.at_ms, LEARN_MS)
    expected_rps = lift.rate_rps or lift.factor * lift.base_rps
    more_rps = expected_rps - lift.base_rps
    if isnan(more_rps) or lift.known_ms < judged_ms / 2:
        return nan
    known_s = lift.known_ms / 1000
    if more_rps * known_s < 2 * sqrt(DISPERSION * expected_rps * known_s):
        return nan
    return min(max((lift.came / known_s - lift.base_rps) / more_rps, 0.0), GAIN_MAX)


def begins(lift: Lift, now_ms: int) -> bool:
    """Return whether a lift begins with a sample at `now_ms`: `advance` is to be told the rate."""
    since_ms = now_ms - lift.at_ms
    return isnan(lift.base_rps) and lift.known_ms == 0 and 0 <= since_ms <= BEGIN_LATE_MS


def is_near(plan: Plan, now_ms: int, horizon_ms: float) -> bool:
    """Return whether a lift begins within the horizon, or began too lately to be in the level."""
    return any(-SETTLED_MS < lift.at_ms - now_ms < horizon_ms for lift in plan.lifts)


def _watch(lift: Lift, now_ms: int, rate_rps: float, grown: float, elapsed_ms: int) -> Lift:
    """Return a lift after a sample, with the arrivals of the part of it that the sample spans."""
    if lift.at_ms > now_ms:
        return lift
    if begins(lift, now_ms):
        lift = lift._replace(base_rps=rate_rps)
    judged_until_ms = min(lift.until_ms, lift.at_ms + LEARN_MS)
    shared_ms = min(now_ms, judged_until_ms) - max(now_ms - elapsed_ms, lift.at_ms)
    if shared_ms <= 0 or isnan(grown):
        return lift
    came = lift.came + grown * shared_ms / elapsed_ms
    return lift._replace(came=came, known_ms=lift.known_ms + shared_ms)


def _learn(gains: Floats, kind: int, gain: float) -> Floats:
    learned = gains.copy()
    learned[kind] = np.append(gains[kind, 1:], gain)
    return learned


def _successor(lift: Lift, gain: float, now_ms: int) -> Lift | None:
    """Return the lift that is foreseen to follow one that is over; None: it recurs no more."""
    if not lift.period_ms:
        return None
    misses = lift.misses
    if lift.announced or gain >= CAME:
        misses = 0
    elif not isnan(lift.base_rps):  # what nobody watched may have come
        misses += 1
    if misses >= MISSES_MAX:
        return None
    later_ms = lift.period_ms * ((now_ms - lift.at_ms) // lift.period_ms + 1)
    at_ms, until_ms = lift.at_ms + later_ms, lift.until_ms + later_ms
    return Lift(
        lift.kind, at_ms, until_ms, lift.rate_rps, lift.factor, False, lift.period_ms, misses
    )


def _period_ms(past_ms: Ints, at_ms: int) -> int:
    """Return the shortest period that ends with `at_ms` and was seen twice before; 0: none.

    So three times at equal distances are a period, whatever lies between them: a job that runs each
    day at 8 and at 18 recurs twice, each with a period of a day.
    """
    for period_ms in sorted(int(at_ms - past) for past in past_ms if past):
        if period_ms < PERIOD_MS_MIN or period_ms > AHEAD_MS_MAX:
            continue
        off_ms = np.abs(past_ms - (at_ms - 2 * period_ms))
        if off_ms.min() <= _tolerance_ms(period_ms):
            return period_ms
    return 0


def _twin(lifts: tuple[Lift, ...] | list[Lift], wanted: Lift) -> Lift | None:
    """Return the lift that stands for the same event at about the same time; None: there is none.

    Two that were both announced are two.
    """
    for lift in lifts:
        if lift.kind != wanted.kind or (lift.announced and wanted.announced):
            continue
        period_ms = lift.period_ms if wanted.announced else wanted.period_ms
        if abs(lift.at_ms - wanted.at_ms) <= _tolerance_ms(period_ms):
            return lift
    return None


def _tolerance_ms(period_ms: int) -> int:
    return min(TOLERANCE_MS, ceil(TOLERANCE_SHARE * period_ms))


def _as_said(lift: Lift, known: Lift) -> Lift:
    """Return a lift as announced, with what was seen so far of the same event."""
    return Lift(*lift[:5], True, *known[6:])


def _instead(plan: Plan, old: Lift | None, new: Lift) -> Plan:
    others = (one for one in plan.lifts if one is not old)
    return plan._replace(lifts=_in_order(*others, new))


def _in_order(*lifts: Lift) -> tuple[Lift, ...]:
    return tuple(sorted(lifts, key=lambda lift: (lift.at_ms, lift.kind, not lift.announced)))
