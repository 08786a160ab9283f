"""The reading side of a fleet: what a policy may see, as a live loop sees it, and what comes out.

Tables are views, not to be written, and not to be held over a call that moves the fleet on.
"""

from typing import cast

import numpy as np
import numpy.typing as npt

from libs.common.messages import FleetState, GpuState, ReplicaState
from libs.fleet import tables as t
from libs.fleet.charge import settle
from libs.fleet.state import State
from libs.fleet.views import STATES, Gone, GpuView, Loaded, ReplicaView

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Seen(State):
    """A fleet that is looked at."""

    # --- What a policy may see --------------------------------------------------------------------

    @property
    def models(self) -> t.Table:
        """The models' counters and gauges, (models,); see `tables.py`. Not to be written."""
        return self._memory["models"][: len(self.specs)]

    @property
    def laws(self) -> t.Table:
        """Sums over finished batches, iterations and loads, (models, device types)."""
        return self._memory["laws"][: len(self.specs)]

    @property
    def latency_ratio(self) -> Ints:
        """Ends by latency / objective, (models, buckets of `series`); LLMs: of the worse ratio."""
        return self._memory["latency_ratio"][: len(self.specs)]

    @property
    def ttft_ratio(self) -> Ints:
        """Ends of LLMs by time to first token / objective, (models, buckets of `series`)."""
        return self._memory["ttft_ratio"][: len(self.specs)]

    @property
    def jobs(self) -> t.Table:
        """The training jobs: steps left, kept and rolled back, checkpoints, restores."""
        return self._memory["jobs"][: len(self.spec.training)]

    @property
    def free_bytes(self) -> Ints:
        """Memory not promised to replicas, (gpus,): a training job gives way."""
        gpus = self._memory["gpus"]
        return cast(Ints, gpus["memory"] - gpus["promised"])

    @property
    def down(self) -> npt.NDArray[np.bool_]:
        """Whether a GPU's node is lost, or to be reclaimed, (gpus,)."""
        gpus, nodes = self._memory["gpus"], self._memory["nodes"]
        return cast(
            npt.NDArray[np.bool_], (gpus["down"] > 0) | (nodes["cordoned"][gpus["node"]] > 0)
        )

    def replica(self, name: str) -> ReplicaView:
        """Return a replica as a policy may see it."""
        record = self._memory["replicas"][self._slots[name]]
        model, _, place = name.rpartition("@")
        node, _, gpus = place.rpartition(":")
        return ReplicaView(
            name,
            model,
            node,
            tuple(map(int, gpus.split("+"))),
            STATES[int(record["state"])],
            int(record["concurrency"]),
            int(record["held"]),
            int(record["held"] - record["running"]),
            int(record["batch_size"]),
            float(record["wait_ms"]),
            float(record["serving_share"]),
            self.start_ms + float(record["ordered_ms"]),
            # The token that a sequence decodes next has its place only once it is being computed.
            int(record["context"] + record["reserved"] - record["decoding"]),
            int(record["kv_tokens"]),
            int(record["pending"]),
        )

    @property
    def replicas(self) -> dict[str, ReplicaView]:
        """All replicas by name, in the order of their loading, as they are at this call."""
        return {name: self.replica(name) for name in self._slots}

    @property
    def gpus(self) -> dict[str, GpuView]:
        """All GPUs by device, with their accounts settled to now, as they are at this call."""
        jobs = [job.name for job in self.spec.training]
        parts = self._memory["parts"]
        return {
            device.device: GpuView(
                device.device,
                device.node,
                device.gpu,
                device.device_type,
                device.memory_bytes,
                int(gpu["held"] + gpu["batch"] + gpu["job"]),
                jobs[int(parts[gpu["part"]]["job"])] if gpu["part"] >= 0 else None,
                float(gpu["serving_ms"]),
                float(gpu["training_ms"]),
                float(gpu["free_ms"]),
                float(gpu["busy_serving_ms"] - gpu["wasted_ms"]),
                float(gpu["busy_training_ms"]),
                int(gpu["steps"]),
                int(gpu["oom"]),
            )
            for device, gpu in zip(self.devices, self.accounts(), strict=True)
        }

    def replicas_of(self, model: str) -> list[ReplicaView]:
        """Return the replicas of a model, in the order of their loading."""
        m = self.model_index[model]
        there = self._memory["replicas"]
        return [self.replica(name) for name, r in self._slots.items() if there[r]["model"] == m]

    def state_of(self, node: str) -> FleetState:
        """Return what is where on a node. A training job gives way: its memory counts as free."""
        n = self.node_index[node]
        record = self._memory["nodes"][n]
        first, count = int(record["first_gpu"]), int(record["n_gpus"])
        gpus = self._memory["gpus"][first : first + count]
        there = self._memory["replicas"]
        views = [
            (self.replica(name), there[r])
            for name, r in self._slots.items()
            if there[r]["node"] == n
        ]
        return FleetState(
            node=node,
            at_ms=int(self.now_ms),
            gpus=tuple(
                GpuState(
                    gpu=k,
                    memory_bytes_total=int(gpu["memory"]),
                    memory_bytes_free=0 if gpu["down"] else int(gpu["memory"] - gpu["promised"]),
                )
                for k, gpu in enumerate(gpus)
            ),
            replicas=tuple(
                ReplicaState(
                    replica=view.name,
                    model=view.model,
                    gpus=view.gpus,
                    state=view.state,
                    memory_bytes=int(replica["whole_memory"]),
                )
                for view, replica in views
            ),
        )

    def take_changed(self) -> list[str]:
        """Return the nodes whose replicas changed since this was last called; at first all."""
        changed = self._memory["nodes"]["changed"]
        names = [self.nodes[n] for n in np.flatnonzero(changed)]
        changed[:] = 0
        return sorted(names)

    def take_events(self) -> list[Loaded | Gone]:
        """Return what came and went since this was last called, in order."""
        events, self._events = self._events, []
        return events

    # --- What comes out ---------------------------------------------------------------------------

    @property
    def requests(self) -> t.Table:
        """All requests, in the order in which they were submitted; see `tables.py`.

        Times in it count from the start of the run; `first_ms` and `ended_ms` are -1 before.
        """
        return self._memory["requests"]

    def latency_ms(self) -> Floats:
        """Return due to ended, (requests,); -1 where a request was not served."""
        return self._where_served(self.requests["ended_ms"])

    def ttft_ms(self) -> Floats:
        """Return due to first token, (requests,); -1 where a request was not served."""
        return self._where_served(self.requests["first_ms"])

    def tpot_ms(self) -> Floats:
        """Return the mean time of each token after the first, (requests,); -1 where not served."""
        table = self.requests
        later = np.maximum(table["generated"] - 1, 1)
        return np.where(self._served(), (table["ended_ms"] - table["first_ms"]) / later, -1.0)

    def accounts(self) -> t.Table:
        """Return a copy of the GPUs' accounts, settled to now: differences give a window."""
        for g in range(len(self.devices)):
            settle(self._world, g)
        return _copy(self._memory["gpus"])

    def work(self) -> t.Table:
        """Return a copy of `laws`; its fields `done_*` are the work of completed requests."""
        return _copy(self.laws)

    def _served(self) -> npt.NDArray[np.bool_]:
        return np.isin(self.requests["status"], (t.OK, t.LATE))

    def _where_served(self, at_ms: Floats) -> Floats:
        since_due_ms = np.maximum(at_ms - self.requests["due_ms"], 0.0)
        return np.where(self._served(), since_due_ms, -1.0)


def _copy(table: t.Table) -> t.Table:
    """Copy a table byte by byte: the gaps between its fields too, so that equal runs are equal."""
    copy: t.Table = np.frombuffer(table.tobytes(), table.dtype).reshape(table.shape)
    return copy
