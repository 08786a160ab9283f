"""Everything a run leaves on the topics that its report needs, folded record by record.

It is the demo's own reader: ends are counted here by request id, not taken from any service.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from cli.figures import at_lead_time
from cli.top import model_p99_ms
from cli.view import FOLLOWED, Floats, View, fold
from libs.common import series, topics
from libs.common.errors import ContractError
from libs.common.messages import (
    Ack,
    Explanation,
    InferenceResult,
    LeaderClaim,
    PlaceReplica,
    ScaleModel,
    SetBatch,
)
from libs.common.ports import Record
from libs.common.wire import read

RECORDED = (
    *FOLLOWED,
    topics.INFERENCE_RESULTS,
    topics.COMMANDS_PLACEMENT,
    topics.COMMANDS_ACKS,
)
FORECAST_EACH_MS = 1000


class Foreseen(NamedTuple):
    """What was foreseen at `at_ms`: the mean rate over (at, at + horizon]."""

    model: str
    at_ms: int
    horizon_ms: int
    mean_rps: float


class ModelMoment(NamedTuple):
    """A model at one moment; None where nothing was known."""

    arrival_rate_rps: float | None
    queue: float | None
    p99_ms: float | None
    resident: int
    loading: int
    target: int | None


class Sampled(NamedTuple):
    """The counters of a device as of its last sample, in seconds since the reading began."""

    at_ms: int
    totals: dict[str, float]


class Moment(NamedTuple):
    """The fleet at one moment."""

    at_ms: int
    models: dict[str, ModelMoment]
    devices: dict[str, Sampled]
    loading: frozenset[str]  # devices that a replica is being loaded to


@dataclass
class Recording:
    """One run: `take` each record, `mark` each second."""

    run: str
    view: View = field(default_factory=View)
    ends: dict[str, InferenceResult] = field(default_factory=dict)
    repeated_ends: int = 0
    commands: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    placements: list[PlaceReplica] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)
    acks: list[Ack] = field(default_factory=list)
    scalings: list[Explanation] = field(default_factory=list)
    forecasts: list[Foreseen] = field(default_factory=list)
    claims_by_epoch: dict[int, LeaderClaim] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)
    _forecast_at_ms: dict[str, int] = field(default_factory=dict)

    def take(self, record: Record) -> None:
        """Fold one record of `RECORDED`."""
        if record.topic in _OURS:
            self._take_ours(record)
        fold(self.view, record)
        if record.topic == topics.LOAD_FORECASTS.name:
            self._take_forecasts()

    def mark(self, at_ms: int) -> None:
        """Keep the present as one point of the timeline."""
        view = self.view
        self.moments.append(
            Moment(
                at_ms,
                {name: self._moment_of(name) for name, m in view.models.items() if m.spec},
                {
                    device: Sampled(totals.recent[-1][0], dict(totals.values))
                    for device, totals in view.devices.items()
                    if series.GPU_SERVING_S in totals.values  # a real GPU beside us is not ours
                },
                frozenset(
                    f"{node.node}/{gpu}"
                    for node in view.nodes.values()
                    for replica in node.replicas
                    for gpu in replica.gpus
                    if replica.state == "loading"
                ),
            )
        )

    def counted(self, name: str, at_ms: Floats) -> Floats:
        """Return a counter summed over all devices at `at_ms`, (n,), straight between samples."""
        devices = {device for moment in self.moments for device in moment.devices}
        counted = np.zeros(len(at_ms))
        for device in devices:
            points = [m.devices[device] for m in self.moments if device in m.devices]
            sampled_ms = [point.at_ms for point in points]
            counted += np.interp(
                at_ms, sampled_ms, [point.totals.get(name, 0.0) for point in points]
            )
        return counted

    def _moment_of(self, name: str) -> ModelMoment:
        model = self.view.models[name]
        return ModelMoment(
            model.totals.rate_per_s(series.ARRIVALS),
            model.totals.values.get(series.QUEUE),
            model_p99_ms(model),
            self.view.count(name, "resident"),
            self.view.count(name, "loading"),
            model.target,
        )

    def _take_ours(self, record: Record) -> None:
        try:
            message = read(record)
        except ContractError:
            return
        match message:
            case InferenceResult() if message.request_id.startswith(f"{self.run}-"):
                self.repeated_ends += message.request_id in self.ends
                self.ends.setdefault(message.request_id, message)
            case Ack():
                self.acknowledged.add(message.command_id)
                self.acks.append(message)
            case ScaleModel():
                self.commands["scaling"].add(message.id)
            case SetBatch():
                self.commands["batch"].add(message.id)
            case PlaceReplica():
                self.commands["placement"].add(message.id)
                self.placements.append(message)
            case Explanation() if message.action == "scale":
                self.scalings.append(message)
            case LeaderClaim():
                self.claims_by_epoch[record.offset] = message

    def _take_forecasts(self) -> None:
        """Keep one forecast a second of each model, at the horizon nearest its lead time."""
        for name, model in self.view.models.items():
            forecast = model.forecast
            at = None if forecast is None else at_lead_time(forecast)
            if forecast is None or at is None or at >= len(forecast.mean_rps):
                continue
            if forecast.at_ms - self._forecast_at_ms.get(name, 0) >= FORECAST_EACH_MS:
                self._forecast_at_ms[name] = forecast.at_ms
                self.forecasts.append(
                    Foreseen(name, forecast.at_ms, forecast.horizon_ms[at], forecast.mean_rps[at])
                )


_OURS = {
    topics.INFERENCE_RESULTS.name,
    topics.COMMANDS_ACKS.name,
    topics.COMMANDS_SCALING.name,
    topics.COMMANDS_BATCH.name,
    topics.COMMANDS_PLACEMENT.name,
    topics.DECISIONS_EXPLAINED.name,
    topics.SCHEDULER_LEADER.name,
}
