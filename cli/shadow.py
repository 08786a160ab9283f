"""What shadow mode would have saved: the sum of its accounts on `decisions.explained`."""

from collections import Counter
from typing import NamedTuple

from cli.explain import explained
from libs.common.errors import ContractError
from libs.common.ports import Bus


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
    async for message in explained(bus):
        if message.action == "shadow" and message.at_ms >= since_ms:
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
