"""`plimsoll takeover`: the leading scheduler dies or pauses. Who goes on, how soon, and from where?

Ten kills (-9) and then pauses of 3 s (SIGSTOP, SIGCONT), all seen from the topics as any reader of
committed records sees them. The last line it prints is JSON, for whoever keeps the figures.
"""

import asyncio
import json
import os
import signal
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cli.connection import given_servers
from cli.local.kafka import broker_at
from cli.local.processes import LocalError, ProjectLock
from cli.session import Session, clear, session
from cli.speaker import Speaker
from cli.stack import BASE, LOOP, SCHEDULERS, Service
from libs.common import plimsoll_pb2 as pb
from libs.common import settings
from libs.common.messages import Ack, LeaderClaim
from libs.common.ports import Bus, Start
from libs.common.topics import SCHEDULER_TICKS
from libs.common.wire import pack_columns, unpack_columns

PAUSES = 3
PAUSE_S = 3.0
TAKEN_OVER_WITHIN_S = 30.0
READY_WITHIN_S = 60.0
# A new leader is left alone for so long, that a placement tick (2 s) is among its own.
SETTLE_S = 3.0


@dataclass
class Terms:
    """The tick records at both ends of every term, and when the first was seen."""

    epoch: int = -1
    first: dict[int, pb.TickRecord] = field(default_factory=dict)
    last: dict[int, pb.TickRecord] = field(default_factory=dict)
    first_seen_s: dict[int, float] = field(default_factory=dict)  # monotonic
    out_of_turn: int = 0  # records of an epoch after one of a higher epoch

    def take(self, tick: pb.TickRecord, seen_s: float) -> None:
        """Add one committed record, in the order of the log."""
        if tick.epoch < self.epoch:
            self.out_of_turn += 1
            return
        if tick.epoch > self.epoch:
            self.epoch = tick.epoch
            self.first[tick.epoch] = tick
            self.first_seen_s[tick.epoch] = seen_s
        self.last[tick.epoch] = tick


@dataclass(frozen=True)
class Change:
    """One change of leaders."""

    how: str
    gap_s: float  # from the fault to the next leader's first tick
    state_equal: bool


def takeover(kills: int, out: Path) -> None:
    """Run the measurement. Call it from the main thread. Raises LocalError, SettingError."""
    given = given_servers()
    console = Console()
    say = Speaker(console)
    with ProjectLock(BASE / "demo.lock"):
        clear(out)
        with broker_at(given, BASE, say=say) as servers:
            say(f"Kafka answers at {servers}")
            asyncio.run(_takeover(kills, servers, out, console, say))


async def _takeover(kills: int, servers: str, out: Path, console: Console, say: Speaker) -> None:
    terms = Terms()
    async with session(servers, out, LOOP, say) as running:
        reading = asyncio.create_task(read_ticks(running.bus, terms))
        try:
            changes = []
            for how, count in (("kill", kills), ("pause", PAUSES)):
                for number in range(1, count + 1):
                    changes.append(await change_leader(running, terms, how))
                    say(f"{how} {number}: next tick after {changes[-1].gap_s:.2f} s")
            await running.follower.read_for(SETTLE_S)
        finally:
            reading.cancel()
    acted = acted_after(running.recording.claims_by_epoch, running.recording.acks)
    _print(changes, terms, acted, console)


async def read_ticks(bus: Bus, terms: Terms) -> None:
    """Keep `terms` up to date until cancelled."""
    async with bus.tail([SCHEDULER_TICKS], Start.LATEST) as reader:
        while True:
            for record in await reader.poll(1.0):
                tick = pb.TickRecord()
                tick.ParseFromString(record.value or b"")
                terms.take(tick, time.monotonic())


async def change_leader(running: Session, terms: Terms, how: str) -> Change:
    """Take the leader away, and wait until the other one has left its first tick."""
    await _until_both_ready(running)
    await running.follower.read_for(SETTLE_S)
    leader, epoch = _leader(running), terms.epoch
    fault_s = time.monotonic()
    pid = running.stack.pid(leader)
    assert pid is not None, "a leader that ticks has a process"
    os.kill(pid, signal.SIGKILL if how == "kill" else signal.SIGSTOP)
    try:
        while terms.epoch == epoch:
            await running.follower.read_for(0.02)
            if time.monotonic() - fault_s > TAKEN_OVER_WITHIN_S:
                raise LocalError(f"nobody took over within {TAKEN_OVER_WITHIN_S:.0f} s")
        await running.follower.read_for(PAUSE_S - (time.monotonic() - fault_s))
    finally:
        if how == "pause":
            os.kill(pid, signal.SIGCONT)
    new = min(number for number in terms.first if number > epoch)
    same = continues(terms.last[epoch], terms.first[new])
    return Change(how, terms.first_seen_s[new] - fault_s, same)


async def _until_both_ready(running: Session) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    waiting = list(SCHEDULERS)
    while waiting:
        await running.follower.read_for(0.2)
        for service in list(waiting):
            try:
                await running.stack.get(service, "/readyz")
                waiting.remove(service)
            except OSError as error:
                if time.monotonic() > deadline:
                    raise LocalError(f"{service.name} is not ready: {error}") from error


def _leader(running: Session) -> Service:
    name = running.recording.view.leader
    for service in SCHEDULERS:
        if service.instance == name:
            return service
    raise LocalError(f"{name!r} leads, which was not started here: is this broker shared?")


def continues(old: pb.TickRecord, new: pb.TickRecord) -> bool:
    """Return whether a new leader went on from exactly the state that the old one left.

    Its first tick is run again, from the old one's last state over what the new one saw: only the
    same start can leave the same bytes.
    """
    # The one place where the command line runs a decision: it checks it, and decides nothing.
    from services.scheduler.core.contracts import State
    from services.scheduler.settings import SchedulerSettings
    from services.scheduler.tick_record import replay

    # The schedulers that were started read the same environment.
    policy = settings.load(SchedulerSettings).scheduler.policy()
    again = pack_columns(replay(unpack_columns(old.state, State), new, policy).state)
    return bool(
        again.SerializeToString(deterministic=True)
        == new.state.SerializeToString(deterministic=True)
    )


def acted_after(claims: dict[int, LeaderClaim], acks: Iterable[Ack]) -> int:
    """Count commands that an executor took on after a later leader's claim than their own.

    What it had accepted before and finished later is no such thing; nor is one it refused.
    """
    seen: set[str] = set()
    acted = 0
    for ack in acks:
        if ack.command_id in seen:
            continue
        seen.add(ack.command_id)
        epoch = int(ack.command_id.split("-")[0])
        later = [claim.at_ms for number, claim in claims.items() if number > epoch]
        acted += ack.status != "failed" and any(at_ms < ack.at_ms for at_ms in later)
    return acted


def _print(changes: list[Change], terms: Terms, acted: int, console: Console) -> None:
    table = Table(title="Takeovers", title_justify="left")
    for name in ("", "count", "median s", "longest s", "state as left"):
        table.add_column(name, justify="right")
    gaps = {how: [c.gap_s for c in changes if c.how == how] for how in ("kill", "pause")}
    for how, gaps_s in gaps.items():
        equal = sum(change.state_equal for change in changes if change.how == how)
        row = (how, len(gaps_s), f"{statistics.median(gaps_s):.2f}", f"{max(gaps_s):.2f}", equal)
        table.add_row(*map(str, row))
    console.print(table)
    found = {
        "kills": len(gaps["kill"]),
        "median_s": round(statistics.median(gaps["kill"]), 3),
        "max_s": round(max(gaps["kill"]), 3),
        "state_equal": all(change.state_equal for change in changes),
        "stops": len(gaps["pause"]),
        "stop_median_s": round(statistics.median(gaps["pause"]), 3),
        "fenced": terms.out_of_turn == 0,
        "acted_on_old_epoch": acted,
    }
    print(json.dumps(found))
