"""What all pictures share: a policy's colour and name, which lines are shown, the style."""

from typing import Any

from bench.campaign import Campaign
from bench.compare import TARGET, cheapest, lines
from bench.peers import DEFAULT, SCALERS, TUNED
from bench.run import Series

# One colour a policy in all pictures; what is not named takes one by its name.
COLOURS = {
    "ours": "#1f4e79",
    "clairvoyant": "#7fa7cf",
    "oracle": "#222222",
    "static": "#9a9a9a",
    "hpa": "#d95f02",
    "kpa": "#1b9e77",
    "keda": "#7570b3",
    "ray": "#e7298a",
    "dynamo": "#66a61e",
    "aibrix": "#e6ab02",
    "wva": "#a6761d",
    "crane": "#8c2d04",
    "phpa": "#c51b7d",
}
MORE = ("#4d9221", "#35978f", "#762a83", "#bf812d")
LOAD, READY, QUEUE = "#1f4e79", "#5aae61", "#b2182b"
# Of the charge: the kernels of requests, the rest of what serving is charged, training, free.
SPLIT = (
    ("serving, kernels run", "#2166ac"),
    ("serving, waiting", "#92c5de"),
    ("training", "#a6dba0"),
    ("free", "#e6e6e6"),
)
STYLE: Any = {
    "svg.hashsalt": "plimsoll",
    "svg.fonttype": "none",  # text stays text
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e8e8e8",
    "axes.axisbelow": True,
}


Key = tuple[str, str]  # policy and variant


def colour(policy: str) -> str:
    """Return a policy's colour: the same in all pictures."""
    return COLOURS.get(policy) or MORE[sum(map(ord, policy)) % len(MORE)]


def name_of(key: Key) -> str:
    """Return what reports call a line."""
    policy, variant = key
    return policy if variant == DEFAULT else f"{policy} {variant}"


def shown(campaign: Campaign, *, shares: bool = False) -> list[tuple[Key, Series]]:
    """Return the series that pictures of single runs have room for: each peer at its best.

    Of peers the tuned variant, or the default where none was tuned, with their shares if asked
    for; of the static fleets the cheapest that attains the target, or else the largest.
    """
    static = [line for line in lines(campaign.rows) if line.policy == "static"]
    one = cheapest(static, TARGET) or (static[-1] if static else None)
    best = TUNED if campaign.chosen else DEFAULT
    wanted = (best, f"{best}+shares") if shares else (best,)
    return [
        (key, series)
        for key, series in sorted(campaign.series.items(), key=lambda item: _order(item[0]))
        if (key[1] in wanted if key[0] in SCALERS else key[0] != "static")
        or (one is not None and key == (one.policy, one.variant))
    ]


def _order(key: Key) -> tuple[int, str, str]:
    return ({"ours": 0, "clairvoyant": 1, "static": 2}.get(key[0], 3), *key)
