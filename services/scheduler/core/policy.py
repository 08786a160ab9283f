"""Every constant of a decision, in one place, with what it means. Settings may replace some."""

from functools import lru_cache
from typing import NamedTuple


class Policy(NamedTuple):
    """The numbers that `decide` weighs by; times are durations in ms, shares lie in [0, 1]."""

    # --- The three paces of the loop, in ticks
    placement_every_ticks: int = 10
    theta_every_ticks: int = 5

    # --- How full a replica may be
    util_target: float = 0.7  # of its GPUs' compute, by the load it is expected to carry
    # Of the objective that a batch, the batch ahead of it and the wait may fill together. It is not
    # theta: were batches to shrink when latency rises, capacity would fall just when it is short.
    batch_margin: float = 0.7
    batch_headroom: float = 3.0  # batches fit this many times the demand, so that bursts find room
    wait_share: float = 0.1  # of the objective, the longest wait for company in a batch
    batch_memory_share: float = 0.5  # of a GPU, the most that one replica's batches may reserve
    # Of the time that a load takes, what training may not use between its requests. No step starts
    # that would make a request late, and the router reckons with the rest of one; so by default
    # nothing: keeping it all costs a third more GPU time and wins no attainment.
    serving_reserve: float = 0.0
    # Shares by weights of latency and utilisation instead (`weights.py`): a rule that is in use
    # elsewhere, to be measured beside ours.
    weight_rule: bool = False
    share_step: float = 0.1  # serving shares move in such steps, so that noise moves nothing
    queue_drain_ms: int = 1000  # a queue counts as the rate that empties it in this time
    demand_half_life_ms: int = 15_000  # how fast past demand is forgotten
    standby_grant: int = 4  # replicas beyond those needed that the router may wake by itself
    # Of a GPU's memory, the most that replicas beyond the targets may fill; the rest is training's.
    # At 0 nobody stands by, and steps in the load that nothing foretells are missed.
    standby_memory_share: float = 0.75

    # --- How many replicas
    cost_miss: float = 99.0  # of a GPU's worth of requests missed, against ...
    cost_idle: float = 1.0  # ... that of a GPU which stood by for nothing
    lead_time_ms: int = 30_000  # from a sample to a resident replica, where it is not known yet
    shrink_hold_ms: int = 60_000  # a target must have been too high for so long before it falls
    moves_max: int = 8  # loads and drains ordered in one placement tick
    # Targets in one placement tick, and batches in one tick: a mistake, or a fleet that changes all
    # at once, then takes several ticks. Halved or doubled, it moves nothing in a smaller fleet.
    commands_max: int = 5000
    move_timeout_ms: int = 10_000  # an order that shows no effect for so long is forgotten
    retry_hold_ms: int = 10_000  # where a load failed, none is tried again for so long
    fleet_stale_ms: int = 5000  # a node that has not reported for so long gets no new replica

    explanations_max: int = 50  # in one tick; a change beyond it is carried out, but not explained

    # --- Theta, the part of the objective that the router lets a prediction fill. A study by
    # simulation found these: 99.95 % within the objective with a time model wrong by 30 %.
    theta_initial: float = 0.7
    theta_min: float = 0.1
    theta_max: float = 0.85
    slo_ratio_high: float = 0.85  # p98 of latency / objective above which theta falls
    slo_ratio_low: float = 0.7  # and below which it rises
    theta_cut: float = 0.9
    theta_raise: float = 1.03
    theta_said_step: float = 0.1  # a change of theta by so much, or to a bound, is explained

    @property
    def quantile(self) -> float:
        """The newsvendor's critical ratio: the quantile of demand at which both costs balance."""
        return self.cost_miss / (self.cost_miss + self.cost_idle)


@lru_cache(maxsize=8)
def typed(policy: Policy) -> Policy:
    """Return the same numbers, each of its field's type: kernels are compiled for types."""
    return Policy(
        *(kind(n) for kind, n in zip(Policy.__annotations__.values(), policy, strict=True))
    )
