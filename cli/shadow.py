"""What shadow mode would have saved: the sum of its accounts on `decisions.explained`."""

from collections import Counter
from typing import NamedTuple

from libs.common.errors import ContractError
from libs.common.messages import Explanation
from libs.common.ports import Bus, Start
from libs.common.topics import DECISIONS_EXPLAINED
from libs.common.wire import read


class Saved(NamedTuple):
    """Over some time in shadow."""

    accounted_s: float
    ran_gpu_h: float
    wanted_gpu_h: float
    ran_usd: float
    wanted_usd: float
    demand_requests: float
    carried_requests: float


async def saved(bus: Bus, since_ms: int) -> Saved:
    """Return the sums since then.

    Raises:
        ContractError: no account was given; says what to do.
    """
    sums: Counter[str] = Counter()
    async with bus.tail([DECISIONS_EXPLAINED], Start.EARLIEST) as reader:
        while not reader.caught_up():
            for record in await reader.poll(0.2):
                try:
                    message = read(record)
                except ContractError:
                    continue
                if not isinstance(message, Explanation) or message.at_ms < since_ms:
                    continue
                if message.action == "shadow":
                    sums.update(message.numbers)
    if not sums:
        raise ContractError(
            "no minute in shadow yet: start a scheduler with PLIMSOLL_SCHEDULER__MODE=shadow"
        )
    return Saved(*(sums[name] for name in Saved._fields))


def in_words(found: Saved) -> str:
    """Return it as a few lines; what it would have cost more is said as such."""
    hours = found.accounted_s / 3600
    gpu_h, usd = found.ran_gpu_h - found.wanted_gpu_h, found.ran_usd - found.wanted_usd
    more = "less" if gpu_h >= 0 else "more"
    part = f" ({abs(gpu_h) / found.ran_gpu_h:.0%})" if found.ran_gpu_h else ""
    ran, wanted = found.ran_gpu_h / hours, found.wanted_gpu_h / hours
    lines = [
        f"{hours:.2f} h in shadow, in which nothing was commanded",
        f"  {found.ran_gpu_h:.2f} GPU-hours ran ({ran:.1f} GPUs), {found.wanted_gpu_h:.2f} would "
        f"have ({wanted:.1f} GPUs): {abs(gpu_h):.2f} {more}{part}",
    ]
    if found.ran_usd or found.wanted_usd:
        lines.append(f"  ${found.ran_usd:.2f} against ${found.wanted_usd:.2f}: ${usd:.2f} saved")
    else:
        lines.append("  in dollars nothing is known: no device in the registry has a price")
    if found.demand_requests:
        carried = found.carried_requests / found.demand_requests
        lines.append(f"  {carried:.2%} of the demand would have been within what those carry")
    return "\n".join(lines)
