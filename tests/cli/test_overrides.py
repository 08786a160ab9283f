import pytest

from cli import overrides as hands
from libs.common.adapters.memory import ManualClock, MemoryBus
from libs.common.errors import ContractError
from libs.common.messages import BatchLaw, DeviceSpec, Message, ModelSpec, Objective
from libs.common.ports import Outgoing
from libs.common.topics import OPERATOR_OVERRIDES, REGISTRY_DEVICES, REGISTRY_MODELS, Topic
from libs.common.wire import Origin, encode

NOW_MS = 1_800_000_000_000
CHAT = ModelSpec(
    name="chat",
    objective=Objective(latency_ms=500),
    weights_bytes=1,
    law={"L4": BatchLaw(alpha_ms=20, beta_ms=5)},
)
GPU = DeviceSpec(device="n-0/0", node="n-0", gpu=0, device_type="L4", memory_bytes=1)


async def a_bus() -> MemoryBus:
    bus = MemoryBus(ManualClock(NOW_MS))
    rows: list[tuple[Topic, str, Message]] = [
        (REGISTRY_MODELS, "chat", CHAT),
        (REGISTRY_DEVICES, "n-0/0", GPU),
    ]
    await bus.publish([encode(t, k, m, Origin("test", "x"), k, NOW_MS) for t, k, m in rows])
    return bus


async def test_what_is_set_is_listed_with_its_author_and_end_until_it_is_over() -> None:
    bus = await a_bus()
    said = hands.override(
        NOW_MS, 1800, target="chat", kind="pin", replicas=4, by="ada", reason="sale"
    )
    await hands.put(bus, said)
    assert await hands.in_force(bus, NOW_MS) == {"chat": said}
    assert hands.in_words(said) == (
        "chat: pinned at 4 replicas by ada until 2027-01-15 08:30:00 UTC (sale)"
    )
    assert await hands.in_force(bus, NOW_MS + 1_800_000) == {}


async def test_resuming_ends_it_and_says_what_it_was() -> None:
    bus = await a_bus()
    for target, by in (("chat", "ada"), ("all", "bob")):
        await hands.put(bus, hands.override(NOW_MS, None, target=target, kind="pause", by=by))
    ended = await hands.resume(bus, "chat", NOW_MS)
    assert ended == ("chat: no longer paused, as ada had set it; it stays paused with all, by bob")
    assert list(await hands.in_force(bus, NOW_MS)) == ["all"]
    with pytest.raises(ContractError, match="nothing is set of chat; there are: all"):
        await hands.resume(bus, "chat", NOW_MS)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"target": "chatt", "kind": "pause"}, "no model chatt is registered; there are: chat"),
        ({"target": "chat", "kind": "cordon"}, "no node chat is registered; there are: n-0"),
    ],
)
async def test_a_target_that_nobody_registered_is_refused(
    fields: dict[str, object], reason: str
) -> None:
    bus = await a_bus()
    with pytest.raises(ContractError, match=reason):
        await hands.put(bus, hands.override(NOW_MS, None, by="ada", **fields))
    assert not bus.records(OPERATOR_OVERRIDES)


@pytest.mark.parametrize("lasts_s", [0.0, 1e18, float("inf")])
def test_it_lasts_some_time_and_not_for_ages(lasts_s: float) -> None:
    with pytest.raises(ContractError, match="at most ten years"):
        hands.override(NOW_MS, lasts_s, target="chat", kind="pause", by="ada")


async def test_what_cannot_be_read_hides_nothing_else() -> None:
    bus = await a_bus()
    await hands.put(bus, hands.override(NOW_MS, None, target="chat", kind="pause", by="ada"))
    await bus.publish([Outgoing(OPERATOR_OVERRIDES.name, "x", b"{broken")])
    assert list(await hands.in_force(bus, NOW_MS)) == ["chat"]
