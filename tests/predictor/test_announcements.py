from services.predictor.core.announcements import KEPT, MODELS_MAX, Announced, learn, post
from services.predictor.core.triggers import Lift

NOW_MS = 1_800_000_000_000
KNOWN = {"chat"}


def lift(after_s: int, factor: float = 3.0) -> Lift:
    begin_ms = NOW_MS + 1000 * after_s
    return Lift(0, begin_ms, begin_ms + 60_000, 0.0, factor)


def posted(*lifts: Lift, model: str = "chat", said_ms: int = NOW_MS) -> tuple[Announced, list[str]]:
    announced: Announced = {}
    outcomes = []
    for one in lifts:
        announced, outcome = post(announced, model, one, said_ms, KNOWN)
        outcomes.append(outcome)
    return announced, outcomes


def test_every_announcement_is_told_what_it_was() -> None:
    announced, outcomes = posted(lift(60), lift(60), lift(60, 5.0), lift(-10))
    assert outcomes == ["taken", "repeated", "changed", "late"]
    assert [one.factor for one in announced["chat"]] == [3.0, 5.0]
    assert posted(lift(60), model="chta")[1] == ["unknown_model"]


def test_what_is_over_makes_room_and_without_it_the_farthest_is_crowded_out() -> None:
    full = [lift(60 * number) for number in range(KEPT)]
    announced, outcomes = posted(*full, lift(5))
    assert outcomes[-1] == "crowded_out"
    assert len(announced["chat"]) == KEPT
    assert announced["chat"][-1] == full[-2]
    later, said = post(announced, "chat", lift(60 * KEPT), NOW_MS + 61_000, KNOWN)
    assert said == "taken"
    assert later["chat"][0] == lift(5)


def test_a_flood_of_names_leaves_the_models_that_are_declared() -> None:
    announced, _ = posted(lift(60))
    announced |= {f"m{number}": (lift(60),) for number in range(MODELS_MAX - 1)}
    for number in range(50):
        announced, _ = post(announced, f"n{number}", lift(60), NOW_MS, KNOWN)
    assert len(announced) == MODELS_MAX
    assert "chat" in announced


def test_a_source_learns_of_its_own_models_and_only_what_has_changed() -> None:
    first, _ = posted(lift(60))
    first, _ = post(first, "other", lift(60), NOW_MS, KNOWN)
    plans = learn({}, ("chat", "code"), {}, first)
    assert list(plans) == ["chat"]
    assert plans["chat"].lifts == (lift(60),)
    assert learn(plans, ("chat",), first, first) is plans
    more, _ = post(first, "chat", lift(90), NOW_MS, KNOWN)
    again = learn(plans, ("chat",), first, more)
    assert [one.at_ms for one in again["chat"].lifts] == [lift(60).at_ms, lift(90).at_ms]
