"""Run seeds: `python -m tests.inventory.sim --seeds 10000 --first 1`; the status is the verdict.

For a seed that fails, whatever is not needed for the failure is taken out of its story first.
"""

import argparse
import logging
import sys
import time

import structlog

from tests.inventory.sim.bugs import BUGS, Shipped, plant
from tests.inventory.sim.database import Database
from tests.inventory.sim.world import FAULTS, World, run

SAY_EVERY_S = 5.0
LAST_EVENTS = 40


def main() -> int:
    """Run the seeds that the command line names, until one fails."""
    parser = argparse.ArgumentParser(prog="make sim", description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--bug", choices=BUGS, help="one to plant")
    chosen = parser.parse_args()
    silent = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=silent)  # faults are what is wanted here
    parts = plant(chosen.bug) if chosen.bug else Shipped()
    database = Database()
    started_s = said_s = time.monotonic()
    events = 0
    for done, seed in enumerate(range(chosen.first, chosen.first + chosen.seeds), start=1):
        world = run(seed, database, parts=parts)
        events += len(world.trace)
        if world.watch.wrong:
            print(told(seed, world, database, parts))
            planted = f" --bug '{chosen.bug}'" if chosen.bug else ""
            print(f"again: python -m tests.inventory.sim --seeds 1 --first {seed}{planted}")
            return 1
        if time.monotonic() - said_s > SAY_EVERY_S:
            said_s = time.monotonic()
            print(f"{done} of {chosen.seeds} seeds, {events} events", flush=True)
    spent_s = time.monotonic() - started_s
    print(f"{chosen.seeds} seeds from {chosen.first}, {events} events in {spent_s:.0f} s: all well")
    return 0


def told(seed: int, world: World, database: Database, parts: Shipped) -> str:
    """Return the shortest story with which this seed fails that leaving out finds."""
    without: list[str] = []
    for fault in FAULTS:
        again = run(seed, database, parts=parts, sent=world.sent, without=[*without, fault])
        if again.watch.wrong:
            world, without = again, [*without, fault]
    size = len(world.sent)
    while size:
        start = 0
        while start < len(world.sent):
            fewer = world.sent[:start] + world.sent[start + size :]
            again = run(seed, database, parts=parts, sent=fewer, without=without)
            if again.watch.wrong:
                world = again
            else:
                start += size
        size //= 2
    lines = [f"seed {seed} fails: {world.watch.wrong[0]}"]
    lines += [f"{s.at_ms / 1000:9.3f} sent {s.value.decode()}" for s in world.sent]
    lines += ["The last events:", *world.trace[-LAST_EVENTS:]]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
