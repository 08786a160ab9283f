import pytest

from cli import explain
from libs.common.adapters.memory import ManualClock, MemoryBus
from libs.common.errors import ContractError
from libs.common.messages import Explanation
from libs.common.topics import DECISIONS_EXPLAINED
from libs.common.wire import Origin, encode

NOW_MS = 1_800_000_000_000  # 2027-01-15 08:00:00 UTC
MINUTE_MS = 60_000


def why(
    minute: int, action: str, text: str, bound: str = "demand", model: str = "chat"
) -> Explanation:
    return Explanation.model_validate(
        {
            "model": model,
            "epoch": 1,
            "tick": minute + 9,
            "at_ms": NOW_MS + minute * MINUTE_MS,
            "action": action,
            "text": text,
            "bound": bound,
            "numbers": {},
            "commands": ["1-2-3"],
        }
    )


SAID = [
    why(-9, "scale", "two replicas"),
    why(-8, "override", "chat: paused by ada", "operator"),
    why(-7, "override", "all: paused by bob", "operator", "all"),
    why(-6, "override", "chat: paused by ada, which is over", "operator_ended"),
    why(-2, "scale", "three replicas", "replicas_max"),
    why(-1, "scale", "of another", model="vision"),
]


async def a_bus(*said: Explanation) -> MemoryBus:
    bus = MemoryBus(ManualClock(NOW_MS))
    origin = Origin("test", "x")
    await bus.publish(
        [encode(DECISIONS_EXPLAINED, w.model, w, origin, str(w.tick), w.at_ms) for w in said]
    )
    return bus


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        ("-5m", -5),
        ("07:03", -57),
        ("07:03:00", -57),
        ("23:00", -540),  # the one of yesterday
        ("2027-01-15T09:00", 60),
        ("2027-01-15T09:00+01:00", 0),
    ],
)
def test_a_time_is_meant_as_people_say_it(text: str, minutes: int) -> None:
    assert explain.when_ms(text, NOW_MS) == NOW_MS + minutes * MINUTE_MS


@pytest.mark.parametrize("text", ["noon", "25:00", "-", "2027-13-01", "1:2:3:4"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match="is no"):
        explain.when_ms(text, NOW_MS)


async def test_of_each_kind_what_was_said_last_held_then() -> None:
    bus = await a_bus(*SAID)
    at_ms = NOW_MS - 7 * MINUTE_MS
    text = explain.in_words(await explain.said_of(bus, "chat", at_ms), at_ms)
    assert text.splitlines() == [
        "What held at 2027-01-15 07:53:00 UTC:",
        "  set by a person, since 2027-01-15 07:52:00 UTC  chat: paused by ada"
        "  [bound: operator; 1 command]",
        "  set by a person, since 2027-01-15 07:53:00 UTC  all: paused by bob"
        "  [bound: operator; 1 command]",
        "  replicas, since 2027-01-15 07:51:00 UTC  two replicas  [bound: demand; 1 command]",
    ]


async def test_what_is_over_holds_no_more() -> None:
    bus = await a_bus(*SAID)
    text = explain.in_words(await explain.said_of(bus, "chat", NOW_MS), NOW_MS)
    assert "by ada" not in text
    assert "three replicas  [bound: replicas max; 1 command]" in text


@pytest.mark.parametrize(
    ("said", "model", "reason"),
    [
        (SAID, "embed", "nothing was said of embed in the last day; there is all, chat, vision"),
        (SAID[-1:], "vision", "nothing was said of vision until then; try a later --at"),
        ([], "chat", "does a scheduler run"),
    ],
)
async def test_where_nothing_was_said_it_says_what_to_do(
    said: list[Explanation], model: str, reason: str
) -> None:
    bus = await a_bus(*said)
    with pytest.raises(ContractError, match=reason):
        await explain.said_of(bus, model, NOW_MS - 60 * MINUTE_MS)
