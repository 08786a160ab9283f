"""The table of policies. A new autoscaler is a file in `policies/` and a line here."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

from bench.policies.aibrix import Aibrix
from bench.policies.autoscaler import Autoscaler, Scaler
from bench.policies.clairvoyant import Clairvoyant
from bench.policies.crane import Crane
from bench.policies.dynamo import Dynamo
from bench.policies.hpa import Hpa
from bench.policies.keda import Keda
from bench.policies.kpa import Kpa
from bench.policies.ours import Ours
from bench.policies.phpa import Phpa
from bench.policies.policy import Policy, Setting
from bench.policies.ray import Ray
from bench.policies.static import Static
from bench.policies.wva import Wva
from libs.common.errors import SettingError

MakePolicy = Callable[[Setting], Policy]

SCALERS: Mapping[str, type[Scaler]] = MappingProxyType(
    {
        "hpa": Hpa,
        "kpa": Kpa,
        "keda": Keda,
        "ray": Ray,
        "dynamo": Dynamo,
        "aibrix": Aibrix,
        "wva": Wva,
        "crane": Crane,
        "phpa": Phpa,
    }
)
CORES: Mapping[str, MakePolicy] = MappingProxyType({"ours": Ours, "clairvoyant": Clairvoyant})
# In the order of reports. `static` has a variant for each size, and the oracle is reckoned, not
# run.
NAMES = ("static", *SCALERS, "ours", "clairvoyant", "oracle")
DEFAULT = "default"


class Variant(NamedTuple):
    """One line of a comparison."""

    policy: str
    variant: str = DEFAULT
    replicas: tuple[tuple[str, int], ...] = ()  # of `static`: by model


def chosen(names: str) -> tuple[str, ...]:
    """Return the policies of a list such as `hpa,ours`, or of `all`.

    Raises:
        SettingError: there is no such policy.
    """
    if names == "all":
        return NAMES
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in NAMES:
            raise SettingError(f"--policies: no policy {name!r}; there are {', '.join(NAMES)}")
    if not wanted:
        raise SettingError(f"--policies: names none; there are {', '.join(NAMES)}")
    return tuple(name for name in NAMES if name in wanted)


def make(variant: Variant, setting: Setting) -> Policy:
    """Return the policy of a variant, for one run."""
    if variant.policy == "static":
        return Static(setting, dict(variant.replicas))
    if variant.policy in SCALERS:
        scaler = SCALERS[variant.policy]
        return Autoscaler(setting, lambda case: scaler(case, scaler.variants[variant.variant]))
    return CORES[variant.policy](setting)
