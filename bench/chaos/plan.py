"""The orders and the faults of one chaos run, from a seed."""

import json
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

ITEMS = ["hot", *(f"item-{number:02}" for number in range(40))]
BAD = (b"", b"nonsense", b'{"order_id": 7}', b'{"order_id": "x", "lines": [{"item": "hot"}]}')
BAD_LINE = '{{"order_id": "bad-{n}", "lines": [{{"item": "hot", "quantity": {q}}}]}}'
BAD_QUANTITIES = ("NaN", "1.5", '"3"', "1e300")
REORDERED_WITHIN = 40


class Sent(NamedTuple):
    """One message to `inventory.orders`."""

    key: str
    value: bytes


def orders(count: int, seed: int) -> Iterator[Sent]:
    """Yield `count` distinct orders, and with them repeats, reuses of ids, and bad messages.

    Three in ten want the hot item; stock is added little by little, so that it often runs short.
    Neighbours are shuffled, so that a release may come before what it releases.
    """
    rng = random.Random(seed)
    window: list[Sent] = []
    for each in _in_turn(count, rng):
        window.append(each)
        if len(window) >= REORDERED_WITHIN:
            yield window.pop(rng.randrange(len(window)) if rng.random() < 0.3 else 0)
    yield from window


def faults(count: int, seed: int, kinds: tuple[str, ...]) -> list[str]:
    """Return which fault comes when; every kind comes, if there are enough of them."""
    rng = random.Random(seed + 1)
    chosen = [kinds[number % len(kinds)] for number in range(count)]
    rng.shuffle(chosen)
    return chosen


def _in_turn(count: int, rng: random.Random) -> Iterator[Sent]:
    reservations: list[str] = []
    for number in range(count):
        if number < len(ITEMS):
            order = _order(f"first-{number}", "restock", {ITEMS[number]: 200})
        else:
            order = _some_order(f"o{number}", rng, reservations)
        sent = _sent(order)
        yield sent
        chance = rng.random()
        if chance < 0.03:
            yield sent
        elif chance < 0.04:
            yield _sent({**order, "customer": "another"})
        elif chance < 0.045:
            yield Sent("bad", rng.choice(BAD))
        elif chance < 0.05:
            line = BAD_LINE.format(n=number, q=rng.choice(BAD_QUANTITIES))
            yield Sent("bad", line.encode())


def _some_order(order_id: str, rng: random.Random, reservations: list[str]) -> dict[str, Any]:
    chance = rng.random()
    names = rng.sample(ITEMS[1:], rng.randint(1, 3))
    if rng.random() < 0.3:
        names[0] = "hot"
    lines = {name: rng.randint(1, 4) for name in names}
    if chance < 0.74:
        return _order(order_id, "order", lines)
    if chance < 0.82:
        reservations.append(order_id)
        return _order(order_id, "reserve", lines, ttl_s=rng.choice([1.0, 5.0, 600.0]))
    if chance < 0.90 and reservations:
        name = reservations.pop(rng.randrange(len(reservations)))
        kind = rng.choice(["order", "order", "release"])
        return _order(order_id, kind, {}, reservation=name)
    if chance < 0.97:
        return _order(order_id, "restock", {name: rng.randint(1, 60) for name in names})
    return _order(order_id, "correct", {names[0]: rng.choice([-3, -2, -1, 1, 2, 3])})


def _order(order_id: str, kind: str, lines: dict[str, int], **more: Any) -> dict[str, Any]:
    listed = [{"item": item, "quantity": quantity} for item, quantity in lines.items()]
    return {"order_id": order_id, "kind": kind, "lines": listed, **more}


def _sent(order: dict[str, Any]) -> Sent:
    return Sent(order["order_id"], json.dumps(order).encode())
