"""Makes ticks of samples from the router's and the devices' counters, for the predictor."""

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from libs.common import plimsoll_pb2 as pb
from libs.common import wire
from libs.common.ports import Bus, Outgoing
from libs.common.ticks import Coder
from libs.common.topics import METRICS_SAMPLES
from libs.common.wire import Origin
from libs.fleet.model import FleetModel, GpuView
from libs.fleet.router import Router
from services.executor.core.samples import Values, device_series, model_series, model_values

# A source counts as stale after three samples missed.
PERIODS = 3


class Sampler:
    """Turns the fleet's counters into one tick a source."""

    def __init__(self, fleet: FleetModel, router: Router, bus: Bus, origin: Origin) -> None:
        self._fleet = fleet
        self._router = router
        self._bus = bus
        self._origin = origin
        self._layouts: dict[tuple[str, tuple[str, ...]], pb.Layout] = {}
        self._new: list[pb.Layout] = []
        self._announced: set[str] = set()
        self._coders: dict[str, Coder] = {}  # by source, of its present layout

    def new_layouts(self) -> list[pb.Layout]:
        """Return the layouts that no one has been told of. Their ticks wait for `announced`."""
        new, self._new = self._new, []
        return new

    def announced(self, layouts: Sequence[pb.Layout]) -> None:
        """Note that the announcement of these layouts is acknowledged."""
        self._announced.update(layout.layout_id for layout in layouts)

    def of_models(self, at_ms: int, period_ms: int) -> list[Outgoing]:
        """Return a tick for each partition that has models in it, of the layouts announced."""
        by_partition: dict[int, list[str]] = defaultdict(list)
        for model in sorted(self._router.models):
            by_partition[self._bus.partition_of(METRICS_SAMPLES, model)].append(model)
        ticks = []
        for partition, models in sorted(by_partition.items()):
            source = f"router/{partition}"
            layout = self._layout(source, models, self._model_series)
            if layout.layout_id in self._announced:
                values = _by_metric([self._values(model) for model in models])
                ticks.append(self._tick(layout, at_ms, period_ms, values, source, partition))
        return ticks

    def of_devices(self, at_ms: int, period_ms: int) -> list[Outgoing]:
        """Return a tick for each node, of the layouts announced. The accounts run up to now."""
        by_node: dict[str, list[GpuView]] = defaultdict(list)
        for gpu in self._fleet.gpus.values():
            by_node[gpu.node].append(gpu)
        ticks = []
        for node, gpus in by_node.items():
            layout = self._layout(
                f"executor/{node}", [gpu.device for gpu in gpus], self._device_series
            )
            if layout.layout_id in self._announced:
                values = _by_metric([np.array(_device_values(gpu), np.float64) for gpu in gpus])
                ticks.append(self._tick(layout, at_ms, period_ms, values, node, None))
        return ticks

    def _values(self, model: str) -> Values:
        m, fleet = self._fleet.model_index[model], self._fleet
        # Of an LLM, theta steers the first token; its tokens' pace is the engine's to keep.
        ratio = fleet.ttft_ratio if fleet.specs[m].kind == "llm" else fleet.latency_ratio
        return model_values(fleet.models[m], ratio[m], fleet.laws[m])

    def _layout(
        self, source: str, names: Sequence[str], series_of: Callable[[str], list[pb.Series]]
    ) -> pb.Layout:
        """Return the layout of what `names` stand for; made once, as making one is slow.

        Its series stand by metric, then by name: like values side by side take fewer bytes.
        """
        made_of = (source, tuple(names))
        if made_of not in self._layouts:
            of_names = [series_of(name) for name in names]
            series = [one for of_metric in zip(*of_names, strict=True) for one in of_metric]
            self._layouts[made_of] = wire.layout_of(source, series)
            self._new.append(self._layouts[made_of])
        return self._layouts[made_of]

    def _model_series(self, model: str) -> list[pb.Series]:
        return model_series(model, self._fleet.device_types)

    def _device_series(self, device: str) -> list[pb.Series]:
        node, _, _ = device.rpartition("/")
        device_type = self._fleet.devices[self._fleet.gpu_index[device]].device_type
        return device_series(device, node, device_type)

    def _tick(
        self,
        layout: pb.Layout,
        at_ms: int,
        period_ms: int,
        values: Values,
        key: str,
        partition: int | None,
    ) -> Outgoing:
        coder = self._coders.get(layout.source)
        if coder is None or coder.layout.layout_id != layout.layout_id:
            coder = self._coders[layout.source] = Coder(layout)
        tick = coder.encode(values, at_ms, at_ms + PERIODS * period_ms)
        event_id = f"{layout.source}-{at_ms}"
        return wire.encode(
            METRICS_SAMPLES, key, tick, self._origin, event_id, at_ms, partition=partition
        )


def _by_metric(rows: Sequence[Values]) -> Values:
    """Return the rows, one a name, in the order of `Sampler._layout`."""
    return np.stack(rows).T.ravel()


def _device_values(gpu: GpuView) -> tuple[float, ...]:
    """Return a row in the order of `OF_DEVICE`; times in seconds."""
    return (
        gpu.serving_ms / 1000,
        gpu.training_ms / 1000,
        gpu.free_ms / 1000,
        gpu.busy_serving_ms / 1000,
        gpu.busy_training_ms / 1000,
        gpu.steps,
        gpu.out_of_memory,
        gpu.allocated_bytes,
        gpu.memory_bytes,
    )
