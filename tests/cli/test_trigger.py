import pytest

from cli import trigger as triggers
from cli.trigger import Lift
from libs.common.adapters.memory import ManualClock, MemoryBus
from libs.common.errors import ContractError
from libs.common.messages import BatchLaw, LoadTrigger, ModelSpec, Objective
from libs.common.ports import Start
from libs.common.topics import LOAD_TRIGGERS, REGISTRY_MODELS
from libs.common.wire import Origin, decode_json, encode

NOW_MS = 1_800_000_000_000
TRIPLE = Lift("app", 3.0, None, 60.0, 120.0)
CHAT = ModelSpec(
    name="chat",
    objective=Objective(latency_ms=500),
    weights_bytes=1,
    law={"L4": BatchLaw(alpha_ms=20, beta_ms=5)},
)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("2h", 7200), ("1d", 86_400)]
)
def test_a_duration_is_a_number_with_a_unit(text: str, seconds: float) -> None:
    assert triggers.seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5s", "5 weeks", "1e3", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match="is no duration such as"):
        triggers.seconds(text)


def test_a_trigger_is_what_was_typed_from_now_on() -> None:
    said = triggers.trigger("chat", TRIPLE, NOW_MS)
    assert said == LoadTrigger(
        model="chat", at_ms=NOW_MS + 60_000, kind="app", factor=3.0, duration_s=120.0
    )
    assert triggers.in_words(said) == "chat: 3 times its load from 08:01:00 UTC, for 120 s"


@pytest.mark.parametrize(
    ("lift", "reason"),
    [
        (TRIPLE._replace(factor=None), "either expected_rate_rps or factor"),
        (TRIPLE._replace(rate_rps=5.0), "either expected_rate_rps or factor"),
        (TRIPLE._replace(factor=0.5), "factor"),
        (TRIPLE._replace(lasts_s=1e9), "duration_s"),
        (TRIPLE._replace(kind="hope"), "kind"),
    ],
)
def test_what_cannot_be_true_is_refused(lift: Lift, reason: str) -> None:
    with pytest.raises(ContractError, match=reason):
        triggers.trigger("chat", lift, NOW_MS)


async def test_it_is_sent_under_the_models_name_where_the_model_is_registered() -> None:
    bus = MemoryBus(ManualClock())
    said = triggers.trigger("chat", TRIPLE, NOW_MS)
    with pytest.raises(ContractError, match=r"no model chat is registered; there are: none"):
        await triggers.announce(bus, said)
    await bus.publish([encode(REGISTRY_MODELS, "chat", CHAT, Origin("test", "1"), "id", 0)])
    assert await triggers.announce(bus, said) == "partition 0 offset 0"
    async with bus.tail([LOAD_TRIGGERS], Start.EARLIEST) as reader:
        (record,) = await reader.poll(0.1)
    assert record.key == b"chat"
    assert decode_json(record, LoadTrigger) == said
