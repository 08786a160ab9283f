"""How good a model's forecasts at its lead time were of late: sums in which the past fades."""

import math

from services.predictor.core.jit import Row, entry

MEMORY_S = 600.0
# Lead times that end a second apart overlap, and tell much the same; so a figure waits for some.
JUDGED_MIN = 60.0
_KEPT = math.exp(-1 / MEMORY_S)  # of a sum, a second later

# How many forecasts were judged, how many of these had a p95 at or above what came, and the sums of
# |came - foreseen mean| and of what came.
FIELDS = dict.fromkeys(("late_judged", "late_covered", "late_error", "late_actual"), "f8")


@entry
def fade(state: Row) -> None:
    """Let a second pass."""
    state.late_judged *= _KEPT
    state.late_covered *= _KEPT
    state.late_error *= _KEPT
    state.late_actual *= _KEPT


@entry
def judge(state: Row, p95: float, came: float, mean: float) -> None:
    """Take in a forecast whose time has come; where it had no p95, it is not judged."""
    if math.isnan(p95):
        return
    state.late_judged += 1
    state.late_covered += int(came <= p95)
    state.late_error += abs(came - mean)
    state.late_actual += came


@entry
def wape(state: Row) -> float:
    """Return the sum of |came - foreseen mean| / the sum of what came; NaN: not known yet.

    It is not known where nothing came, either: no error is a share of nothing.
    """
    if state.late_judged < JUDGED_MIN or state.late_actual <= 0:
        return math.nan
    return state.late_error / state.late_actual


@entry
def coverage_p95(state: Row) -> float:
    """Return the share of forecasts whose p95 held, in [0, 1]; NaN: not known yet."""
    if state.late_judged < JUDGED_MIN:
        return math.nan
    return state.late_covered / state.late_judged
