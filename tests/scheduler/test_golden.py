"""A short scripted day and what was decided. After a wanted change: `make golden`, then read."""

import json
from pathlib import Path

from services.scheduler.core.policy import Policy
from tests.scheduler.fleets import GB, Fleet, a_model

GOLDEN = Path(__file__).parent / "golden" / "a_burst.json"

# (ticks, requests/s of chat, its queue, p98 / objective, requests/s of vision; None: no forecast)
SCRIPT = (
    (10, None, 0, 0.0, None),
    (20, 20, 0, 0.3, 30),
    (10, 200, 60, 0.9, 30),
    (20, 400, 10, 1.1, 30),
    (20, 40, 0, 0.4, 30),
    (10, 40, 0, 0.4, None),
)


def decide_all() -> list[dict[str, object]]:
    models = (a_model("chat"), a_model("vision", weights_bytes=4 * GB, gpus=2, replicas_min=0))
    fleet = Fleet(*models, nodes=2, gpus=2, load_ticks=5, policy=Policy())
    decided = []
    for ticks, chat, queue, ratio, vision in SCRIPT:
        for _ in range(ticks):
            if chat is not None:
                fleet.offer("chat", chat, queue_requests=queue, slo_ratio_p98=ratio)
            if vision is not None:
                fleet.offer("vision", vision)
            tick = fleet.tick
            decision = fleet.step()
            said = {
                "commands": [c.model_dump(mode="json") for c in decision.commands],
                "tables": [t.model_dump(mode="json") for t in decision.tables],
                "why": [w.model_dump(mode="json") for w in decision.why],
            }
            if any(said.values()):
                decided.append({"tick": tick, **said})
    return decided


def test_the_scripted_day_is_decided_as_before(rewrite_golden: bool) -> None:
    text = json.dumps(decide_all(), indent=1) + "\n"
    if rewrite_golden:
        GOLDEN.write_text(text)
    assert GOLDEN.read_text() == text, "decisions changed; if that is wanted: make golden"
