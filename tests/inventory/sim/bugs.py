"""Bugs to plant: each is one small change of a shipped source, which is then compiled anew.

A text that is no longer found is an error, so that each bug goes on meaning something.
"""

import ast
import types
from pathlib import Path
from typing import NamedTuple

from libs.common.adapters import sql, sql_ledger
from services.inventory import app
from services.inventory.core import orders


class Bug(NamedTuple):
    """Text of a source, and what stands there instead."""

    source: types.ModuleType
    old: str
    new: str


RELAY = """            await self._bus.publish([waiting.message for waiting in unsent.values()])
            await self._store.sent(list(unsent))
"""
TAKE = """            await self._take_batch(batch)
            await reader.commit({(r.topic, r.partition): r.offset + 1 for r in batch})
"""
SETTLED = """                settled = Settled(settlement.content, settlement.verdict)
                known[asked.order_id] = settled  # it may come again within this batch
"""
BUGS = {
    "the stock condition is dropped": Bug(
        sql_ledger,
        "if row.stock + move.stock < 0 or row.reserved + move.reserved < 0:",
        "if row.stock + move.stock < -3:",
    ),
    "marked as sent before it is sent": Bug(
        app, RELAY, "\n".join([*reversed(RELAY.splitlines()), ""])
    ),
    "never marked as sent": Bug(app, "            await self._store.sent(list(unsent))\n", ""),
    "the duplicate check is skipped": Bug(app, "prior = known.get(asked.order_id)", "prior = None"),
    "a duplicate within a batch is not seen": Bug(
        app, SETTLED, SETTLED.replace("known[asked.order_id] = ", "_ = ")
    ),
    "offsets are committed before the transaction": Bug(
        app, TAKE, "\n".join([*reversed(TAKE.splitlines()), ""])
    ),
    "offsets are one too high": Bug(app, "r.offset + 1", "r.offset + 2"),
    "messages are published within the transaction": Bug(
        app,
        "        await ledger.settle(new, outbox)\n        return settlements",
        "        await ledger.settle(new, [])\n"
        "        await self._bus.publish([said.message for said in outbox])\n"
        "        return settlements",
    ),
    "messages are published after the transaction, without an outbox": Bug(
        app,
        "        await ledger.settle(new, outbox)\n        return settlements",
        "        await ledger.settle(new, [])\n"
        "        self._late = [said.message for said in outbox]\n"
        "        asyncio.get_running_loop().call_later(\n"
        "            0.1, lambda: asyncio.ensure_future(self._bus.publish(self._late)))\n"
        "        return settlements",
    ),
    "published in the wrong order": Bug(
        app, "for waiting in unsent.values()])", "for waiting in reversed(unsent.values())])"
    ),
    "the outbox is read from its end": Bug(
        sql, ".order_by(OUTBOX.c.place).limit", ".order_by(OUTBOX.c.place.desc()).limit"
    ),
    "the version is not raised": Bug(
        sql_ledger,
        "row.reserved + move.reserved, row.version + 1, row.found",
        "row.reserved + move.reserved, row.version, row.found",
    ),
    "a reservation is given back twice": Bug(
        orders, 'elif found.state != "held":', 'elif found.state == "expired":'
    ),
    "the end of a reservation is not noted": Bug(
        app, "        await ledger.end(asked.reservation, asked.status)\n", ""
    ),
    "an expiry is not noted": Bug(app, '            await ledger.end(order_id, "expired")\n', ""),
    "reservations end before their time": Bug(
        app, "ledger.expired(now_ms, EXPIRE_MAX)", "ledger.expired(now_ms + 5000, EXPIRE_MAX)"
    ),
    "an expiry says nothing": Bug(
        app, "        await ledger.settle([], outbox)\n", "        await ledger.settle([], [])\n"
    ),
    "expired reservations are never looked for": Bug(
        app, "if await self.expire() < EXPIRE_MAX and", "if"
    ),
    "random ids": Bug(
        orders,
        'return f"{order_id}/{content}/{position}"',
        'import random; return f"{order_id}/{random.random()}/{position}"',
    ),
    "one id for all facts of an order": Bug(
        orders, 'return f"{order_id}/{content}/{position}"', 'return f"{order_id}/{content}"'
    ),
    "an expiry has the ids of its reserve": Bug(
        app,
        'said_of(updates, order_id, "expired", self._origin)',
        "said_of(updates, order_id, known[order_id].content, self._origin)",
    ),
    "part of an order is carried when another line is short": Bug(
        sql_ledger,
        "changed[item] = _Row(",
        "changed[item] = self._rows[item] = _Row(",
    ),
    "a used id is answered as the first order was": Bug(
        orders, "if prior.content == asked.content:", "if True:"
    ),
    "an order takes a reservation's stock again": Bug(
        orders, '"fulfilled": Move(0, -1)', '"fulfilled": Move(-1, -1)'
    ),
    "a repeated verdict has a new time": Bug(
        orders,
        "return Settlement(prior.content, prior.verdict)",
        "return Settlement(prior.content, prior.verdict.model_copy("
        'update={"decided_at_ms": now_ms}))',
    ),
    "what cannot be read is dropped": Bug(
        app,
        "readable = await sift(batch, InventoryOrder, self._bus, self._origin)",
        "readable = await sift(batch, InventoryOrder, Deaf(), self._origin)",
    ),
}
# What a bug needs to be written shortly.
NEEDED = {
    "an expiry has the ids of its reserve": (
        "        await ledger.open([], [], due)\n",
        "        known = await ledger.open(due, [], due)\n",
    ),
    "what cannot be read is dropped": (
        'GROUP = "inventory"\n',
        'GROUP = "inventory"\n\n\nclass Deaf:\n    async def publish(self, messages):\n'
        "        pass\n\n\n",
    ),
}


class Shipped(NamedTuple):
    """The parts that a world runs on."""

    Inventory: type = app.Inventory
    SqlStore: type = sql.SqlStore


def plant(name: str) -> Shipped:
    """Return the shipped parts with this bug in them."""
    bug = BUGS[name]
    text = Path(bug.source.__file__).read_text()
    for old, new in [(bug.old, bug.new), *([NEEDED[name]] if name in NEEDED else [])]:
        assert text.count(old) == 1, f"{name}: {old!r} is there {text.count(old)} times"
        text = text.replace(old, new)
    sick = module_of(bug.source, text)
    parts = {app: app, sql: sql, bug.source: sick}
    if bug.source is orders:
        parts[app] = module_of(app, Path(app.__file__).read_text())
        vars(parts[app])["orders"] = sick
    if bug.source is sql_ledger:
        parts[sql] = module_of(sql, Path(sql.__file__).read_text())
        vars(parts[sql]).update(SqlLedger=sick.SqlLedger, announcement_of=sick.announcement_of)
    return Shipped(parts[app].Inventory, parts[sql].SqlStore)


def module_of(source: types.ModuleType, text: str | ast.Module) -> types.ModuleType:
    """Return a module like this one, of another text; nobody else will import it."""
    module = types.ModuleType(source.__name__)
    module.__file__ = source.__file__
    exec(compile(text, f"{source.__file__} (planted)", "exec"), vars(module))
    return module
