"""The table of policies. A new autoscaler is a file in `policies/` and a line here."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from bench.errors import Errors
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
from bench.policies.shared import Shared
from bench.policies.static import Static
from bench.policies.weights import Weights
from bench.policies.wva import Wva
from libs.common.errors import SettingError
from services.scheduler.core.policy import Policy as SchedulerPolicy

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
CORES: Mapping[str, MakePolicy] = MappingProxyType(
    {"ours": Ours, "weights": Weights, "clairvoyant": Clairvoyant}
)
# In the order of reports. `static` has a variant for each size, and the oracle is reckoned, not
# run.
NAMES = ("static", *SCALERS, "ours", "weights", "clairvoyant", "oracle")
DEFAULT, TUNED = "default", "tuned"
SHARES = "+shares"  # of a variant: the same counts, under our router and share loop
SHARED = (DEFAULT + SHARES, TUNED + SHARES)


class Variant(NamedTuple):
    """One line of a comparison."""

    policy: str
    variant: str = DEFAULT
    replicas: tuple[tuple[str, int], ...] = ()  # of `static`: by model
    setting: Any = None  # of a peer that is tuned; of ours, its policy or its `Errors`


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


def variants_of(policy: str) -> tuple[str, ...]:
    """Return the variants of a peer: its own settings, tuned, and both with our shares."""
    return (*SCALERS[policy].variants, TUNED, *SHARED)


def chosen_variants(names: str) -> tuple[str, ...]:
    """Return the variants of a list such as `default,tuned`, or of `all`.

    Raises:
        SettingError: no peer has such a variant.
    """
    known = tuple(dict.fromkeys(name for policy in SCALERS for name in variants_of(policy)))
    if names == "all":
        return known
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    for name in wanted:
        if name not in known:
            raise SettingError(f"--variants: no variant {name!r}; there are {', '.join(known)}")
    if not wanted:
        raise SettingError(f"--variants: names none; there are {', '.join(known)}")
    return tuple(name for name in known if name in wanted)


def make(variant: Variant, setting: Setting) -> Policy:
    """Return the policy of a variant, for one run."""
    if variant.policy == "static":
        return Static(setting, dict(variant.replicas))
    if isinstance(variant.setting, Errors):
        return Ours(setting, errors=variant.setting)
    if isinstance(variant.setting, SchedulerPolicy):
        return Ours(setting, variant.setting)
    if variant.policy in CORES:
        return CORES[variant.policy](setting)
    scaler, setting_of = SCALERS[variant.policy], variant.setting
    if setting_of is None:
        setting_of = scaler.variants[variant.variant.removesuffix(SHARES)]
    kind = Shared if variant.variant.endswith(SHARES) else Autoscaler
    return kind(setting, lambda case: scaler(case, setting_of))
