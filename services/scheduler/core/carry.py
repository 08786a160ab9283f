"""State from one tick to the next where models have come or gone: by name, and only then."""

import numpy as np

from services.scheduler.core.contracts import Observation, State, parts_of
from services.scheduler.core.policy import Policy
from services.scheduler.core.replicas import positions


def carried(state: State, seen: Observation, policy: Policy) -> State:
    """Return the state with its rows in the order of the models that there are now."""
    if state.models == seen.models:
        return state
    at = positions(state.models)
    was = np.array([at.get(name, -1) for name in seen.models], np.int64)
    return state._replace(
        models=seen.models,
        theta=np.append(state.theta, policy.theta_initial)[was],
        theta_said=np.append(state.theta_said, policy.theta_initial)[was],
        target=np.append(state.target, -1)[was],
        low_since_ms=np.append(state.low_since_ms, -1)[was],
        recent_rps=np.append(state.recent_rps, 0.0)[was],
        mean_rps=np.append(state.mean_rps, 0.0)[was],
        lasting_rps=np.append(state.lasting_rps, np.inf)[was],
        demand_ms=np.append(state.demand_ms, 0)[was],
        held=np.append(state.held, False)[was],
        short=np.append(state.short, False)[was],
    )


def rerouted(state: State, models: tuple[str, ...], names: tuple[str, ...]) -> set[str]:
    """Return the models whose table is another one because a name came, went or changed places.

    `models` and `names`, of replicas, are those of now; a replica that went is gone even where this
    very tick loads it anew. What changes for one that stays is not seen here.
    """
    found: set[str] = set()
    if models != state.models:
        found = set(models) - set(state.models)
    if names != state.replicas:
        at = positions(names)
        last = -1
        for name, concurrency in zip(state.replicas, state.concurrency.tolist(), strict=True):
            now = at.get(name, -1)
            if concurrency >= 0 and (now < 0 or now < last):
                found.add(parts_of(name)[0])
            last = max(last, now)
    return found
