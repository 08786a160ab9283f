"""What the apps send: orders of every kind, repeated, reordered, under used ids, and nonsense."""

import json
import random
from typing import NamedTuple

ITEMS = ("bolt", "cog", "nut")


class Sent(NamedTuple):
    """One message, and when it is sent."""

    at_ms: int
    key: str
    value: bytes


def tell(rng: random.Random, count: int, within_ms: int) -> list[Sent]:
    """Return `count` messages or some more, in the order of their times."""
    sent = []
    made: list[tuple[str, bytes]] = []
    for number in range(count):
        at_ms = rng.randrange(within_ms)
        if made and rng.random() < 0.15:
            key, value = rng.choice(made)  # again, as it was
        elif rng.random() < 0.05:
            key, value = "x", rng.choice((b"", b"nonsense", b'{"order_id": 1}', b"[]"))
        else:
            again = made and rng.random() < 0.05  # another order under a used id
            key = rng.choice(made)[0] if again else f"o{number}"
            value = json.dumps(_order(rng, key, made)).encode()
            made.append((key, value))
        sent.append(Sent(at_ms, key, value))
    for item in ITEMS:
        at_ms = rng.randrange(within_ms // 3)
        line = {"item": item, "quantity": rng.randint(3, 12)}
        value = json.dumps({"order_id": f"r-{item}", "kind": "restock", "lines": [line]}).encode()
        sent.append(Sent(at_ms, f"r-{item}", value))
    return sorted(sent)


def _order(rng, order_id, made):
    kinds = ("order", "reserve", "restock", "correct", "release", "take")
    kind = rng.choices(kinds, (8, 5, 2, 2, 3, 3))[0]
    reserves = [key for key, value in made if b'"reserve"' in value]
    if kind in ("release", "take"):
        named = rng.choice(reserves) if reserves else "nobody"
        kind = "order" if kind == "take" else kind
        return {"order_id": order_id, "kind": kind, "reservation": named}
    lines = []
    for item in rng.sample(ITEMS, rng.choice((1, 1, 2, 3))):
        quantity = rng.choice((1, 1, 2, 3, 5))
        lines.append({"item": item, "quantity": -quantity if kind == "correct" else quantity})
    order = {"order_id": order_id, "kind": kind, "lines": lines}
    if kind == "reserve":
        order["ttl_s"] = rng.choice((0.3, 1, 3, 900))
    return order
