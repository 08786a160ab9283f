from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Series(_message.Message):
    __slots__ = ("metric", "kind", "model", "node", "device", "device_type", "bucket", "resolution")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        GAUGE: _ClassVar[Series.Kind]
        COUNTER: _ClassVar[Series.Kind]
    GAUGE: Series.Kind
    COUNTER: Series.Kind
    METRIC_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TYPE_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    RESOLUTION_FIELD_NUMBER: _ClassVar[int]
    metric: str
    kind: Series.Kind
    model: str
    node: str
    device: str
    device_type: str
    bucket: int
    resolution: float
    def __init__(self, metric: _Optional[str] = ..., kind: _Optional[_Union[Series.Kind, str]] = ..., model: _Optional[str] = ..., node: _Optional[str] = ..., device: _Optional[str] = ..., device_type: _Optional[str] = ..., bucket: _Optional[int] = ..., resolution: _Optional[float] = ...) -> None: ...

class Layout(_message.Message):
    __slots__ = ("layout_id", "source", "series")
    LAYOUT_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SERIES_FIELD_NUMBER: _ClassVar[int]
    layout_id: str
    source: str
    series: _containers.RepeatedCompositeFieldContainer[Series]
    def __init__(self, layout_id: _Optional[str] = ..., source: _Optional[str] = ..., series: _Optional[_Iterable[_Union[Series, _Mapping]]] = ...) -> None: ...

class Tick(_message.Message):
    __slots__ = ("sequence", "at_ms", "layout", "holds_ms", "floats", "key", "delta", "begun_ms")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    HOLDS_MS_FIELD_NUMBER: _ClassVar[int]
    FLOATS_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    BEGUN_MS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    at_ms: int
    layout: int
    holds_ms: int
    floats: bytes
    key: bytes
    delta: bytes
    begun_ms: int
    def __init__(self, sequence: _Optional[int] = ..., at_ms: _Optional[int] = ..., layout: _Optional[int] = ..., holds_ms: _Optional[int] = ..., floats: _Optional[bytes] = ..., key: _Optional[bytes] = ..., delta: _Optional[bytes] = ..., begun_ms: _Optional[int] = ...) -> None: ...

class BatchLaw(_message.Message):
    __slots__ = ("alpha_ms", "beta_ms", "batches")
    ALPHA_MS_FIELD_NUMBER: _ClassVar[int]
    BETA_MS_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    alpha_ms: float
    beta_ms: float
    batches: int
    def __init__(self, alpha_ms: _Optional[float] = ..., beta_ms: _Optional[float] = ..., batches: _Optional[int] = ...) -> None: ...

class LoadForecast(_message.Message):
    __slots__ = ("model", "at_ms", "newest_sample_ms", "next_by_ms", "arrival_rate_rps", "horizon_ms", "mean_rps", "quantile_rps", "peak_10s_quantile_rps", "dispersion", "queue_requests", "in_flight_requests", "slo_ratio_p98", "prompt_tokens_mean", "output_tokens_mean", "lead_time_ms", "law", "recent_wape", "recent_coverage_p95", "lifts")
    class LeadTimeMsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class LawEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: BatchLaw
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[BatchLaw, _Mapping]] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    NEWEST_SAMPLE_MS_FIELD_NUMBER: _ClassVar[int]
    NEXT_BY_MS_FIELD_NUMBER: _ClassVar[int]
    ARRIVAL_RATE_RPS_FIELD_NUMBER: _ClassVar[int]
    HORIZON_MS_FIELD_NUMBER: _ClassVar[int]
    MEAN_RPS_FIELD_NUMBER: _ClassVar[int]
    QUANTILE_RPS_FIELD_NUMBER: _ClassVar[int]
    PEAK_10S_QUANTILE_RPS_FIELD_NUMBER: _ClassVar[int]
    DISPERSION_FIELD_NUMBER: _ClassVar[int]
    QUEUE_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    SLO_RATIO_P98_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_MEAN_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_MEAN_FIELD_NUMBER: _ClassVar[int]
    LEAD_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    LAW_FIELD_NUMBER: _ClassVar[int]
    RECENT_WAPE_FIELD_NUMBER: _ClassVar[int]
    RECENT_COVERAGE_P95_FIELD_NUMBER: _ClassVar[int]
    LIFTS_FIELD_NUMBER: _ClassVar[int]
    model: str
    at_ms: int
    newest_sample_ms: int
    next_by_ms: int
    arrival_rate_rps: float
    horizon_ms: _containers.RepeatedScalarFieldContainer[int]
    mean_rps: _containers.RepeatedScalarFieldContainer[float]
    quantile_rps: _containers.RepeatedScalarFieldContainer[float]
    peak_10s_quantile_rps: _containers.RepeatedScalarFieldContainer[float]
    dispersion: float
    queue_requests: float
    in_flight_requests: float
    slo_ratio_p98: float
    prompt_tokens_mean: float
    output_tokens_mean: float
    lead_time_ms: _containers.ScalarMap[str, float]
    law: _containers.MessageMap[str, BatchLaw]
    recent_wape: float
    recent_coverage_p95: float
    lifts: _containers.RepeatedCompositeFieldContainer[Lift]
    def __init__(self, model: _Optional[str] = ..., at_ms: _Optional[int] = ..., newest_sample_ms: _Optional[int] = ..., next_by_ms: _Optional[int] = ..., arrival_rate_rps: _Optional[float] = ..., horizon_ms: _Optional[_Iterable[int]] = ..., mean_rps: _Optional[_Iterable[float]] = ..., quantile_rps: _Optional[_Iterable[float]] = ..., peak_10s_quantile_rps: _Optional[_Iterable[float]] = ..., dispersion: _Optional[float] = ..., queue_requests: _Optional[float] = ..., in_flight_requests: _Optional[float] = ..., slo_ratio_p98: _Optional[float] = ..., prompt_tokens_mean: _Optional[float] = ..., output_tokens_mean: _Optional[float] = ..., lead_time_ms: _Optional[_Mapping[str, float]] = ..., law: _Optional[_Mapping[str, BatchLaw]] = ..., recent_wape: _Optional[float] = ..., recent_coverage_p95: _Optional[float] = ..., lifts: _Optional[_Iterable[_Union[Lift, _Mapping]]] = ...) -> None: ...

class Lift(_message.Message):
    __slots__ = ("kind", "at_ms", "until_ms", "announced")
    KIND_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    ANNOUNCED_FIELD_NUMBER: _ClassVar[int]
    kind: str
    at_ms: int
    until_ms: int
    announced: bool
    def __init__(self, kind: _Optional[str] = ..., at_ms: _Optional[int] = ..., until_ms: _Optional[int] = ..., announced: _Optional[bool] = ...) -> None: ...

class LoadForecasts(_message.Message):
    __slots__ = ("partition", "at_ms", "forecasts")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    FORECASTS_FIELD_NUMBER: _ClassVar[int]
    partition: int
    at_ms: int
    forecasts: _containers.RepeatedCompositeFieldContainer[LoadForecast]
    def __init__(self, partition: _Optional[int] = ..., at_ms: _Optional[int] = ..., forecasts: _Optional[_Iterable[_Union[LoadForecast, _Mapping]]] = ...) -> None: ...

class NodeScore(_message.Message):
    __slots__ = ("node", "score", "newest_sample_ms", "next_by_ms", "profile", "low_hours")
    class Profile(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNKNOWN: _ClassVar[NodeScore.Profile]
        BETWEEN: _ClassVar[NodeScore.Profile]
        STEADY: _ClassVar[NodeScore.Profile]
        BURSTY: _ClassVar[NodeScore.Profile]
    UNKNOWN: NodeScore.Profile
    BETWEEN: NodeScore.Profile
    STEADY: NodeScore.Profile
    BURSTY: NodeScore.Profile
    NODE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    NEWEST_SAMPLE_MS_FIELD_NUMBER: _ClassVar[int]
    NEXT_BY_MS_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    LOW_HOURS_FIELD_NUMBER: _ClassVar[int]
    node: str
    score: float
    newest_sample_ms: int
    next_by_ms: int
    profile: NodeScore.Profile
    low_hours: int
    def __init__(self, node: _Optional[str] = ..., score: _Optional[float] = ..., newest_sample_ms: _Optional[int] = ..., next_by_ms: _Optional[int] = ..., profile: _Optional[_Union[NodeScore.Profile, str]] = ..., low_hours: _Optional[int] = ...) -> None: ...

class NodeScores(_message.Message):
    __slots__ = ("partition", "at_ms", "scores")
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    partition: int
    at_ms: int
    scores: _containers.RepeatedCompositeFieldContainer[NodeScore]
    def __init__(self, partition: _Optional[int] = ..., at_ms: _Optional[int] = ..., scores: _Optional[_Iterable[_Union[NodeScore, _Mapping]]] = ...) -> None: ...

class Column(_message.Message):
    __slots__ = ("name", "dtype", "shape", "data", "text")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    name: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    text: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ..., text: _Optional[_Iterable[str]] = ...) -> None: ...

class Columns(_message.Message):
    __slots__ = ("columns",)
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    columns: _containers.RepeatedCompositeFieldContainer[Column]
    def __init__(self, columns: _Optional[_Iterable[_Union[Column, _Mapping]]] = ...) -> None: ...

class TickRecord(_message.Message):
    __slots__ = ("epoch", "tick", "seen_until_ms", "observation", "state")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TICK_FIELD_NUMBER: _ClassVar[int]
    SEEN_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    tick: int
    seen_until_ms: int
    observation: Columns
    state: Columns
    def __init__(self, epoch: _Optional[int] = ..., tick: _Optional[int] = ..., seen_until_ms: _Optional[int] = ..., observation: _Optional[_Union[Columns, _Mapping]] = ..., state: _Optional[_Union[Columns, _Mapping]] = ...) -> None: ...

class SourceState(_message.Message):
    __slots__ = ("layout_id", "layout", "at_ms", "next_by_ms", "values", "tables", "pairs", "plans")
    LAYOUT_ID_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    NEXT_BY_MS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    TABLES_FIELD_NUMBER: _ClassVar[int]
    PAIRS_FIELD_NUMBER: _ClassVar[int]
    PLANS_FIELD_NUMBER: _ClassVar[int]
    layout_id: str
    layout: Layout
    at_ms: int
    next_by_ms: int
    values: bytes
    tables: _containers.RepeatedScalarFieldContainer[bytes]
    pairs: _containers.RepeatedScalarFieldContainer[str]
    plans: _containers.RepeatedCompositeFieldContainer[PlanState]
    def __init__(self, layout_id: _Optional[str] = ..., layout: _Optional[_Union[Layout, _Mapping]] = ..., at_ms: _Optional[int] = ..., next_by_ms: _Optional[int] = ..., values: _Optional[bytes] = ..., tables: _Optional[_Iterable[bytes]] = ..., pairs: _Optional[_Iterable[str]] = ..., plans: _Optional[_Iterable[_Union[PlanState, _Mapping]]] = ...) -> None: ...

class PlanState(_message.Message):
    __slots__ = ("model", "lifts", "past_ms", "gains", "seen_ms")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LIFTS_FIELD_NUMBER: _ClassVar[int]
    PAST_MS_FIELD_NUMBER: _ClassVar[int]
    GAINS_FIELD_NUMBER: _ClassVar[int]
    SEEN_MS_FIELD_NUMBER: _ClassVar[int]
    model: str
    lifts: bytes
    past_ms: bytes
    gains: bytes
    seen_ms: int
    def __init__(self, model: _Optional[str] = ..., lifts: _Optional[bytes] = ..., past_ms: _Optional[bytes] = ..., gains: _Optional[bytes] = ..., seen_ms: _Optional[int] = ...) -> None: ...

class RunState(_message.Message):
    __slots__ = ("layout_id", "begun_ms", "sequence", "whole", "integers")
    LAYOUT_ID_FIELD_NUMBER: _ClassVar[int]
    BEGUN_MS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    WHOLE_FIELD_NUMBER: _ClassVar[int]
    INTEGERS_FIELD_NUMBER: _ClassVar[int]
    layout_id: str
    begun_ms: int
    sequence: int
    whole: bool
    integers: bytes
    def __init__(self, layout_id: _Optional[str] = ..., begun_ms: _Optional[int] = ..., sequence: _Optional[int] = ..., whole: _Optional[bool] = ..., integers: _Optional[bytes] = ...) -> None: ...

class PartitionState(_message.Message):
    __slots__ = ("sources", "runs")
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    sources: _containers.RepeatedCompositeFieldContainer[SourceState]
    runs: _containers.RepeatedCompositeFieldContainer[RunState]
    def __init__(self, sources: _Optional[_Iterable[_Union[SourceState, _Mapping]]] = ..., runs: _Optional[_Iterable[_Union[RunState, _Mapping]]] = ...) -> None: ...

class SnapshotChunk(_message.Message):
    __slots__ = ("form", "next_offset", "chunk", "chunks", "data")
    FORM_FIELD_NUMBER: _ClassVar[int]
    NEXT_OFFSET_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    form: str
    next_offset: int
    chunk: int
    chunks: int
    data: bytes
    def __init__(self, form: _Optional[str] = ..., next_offset: _Optional[int] = ..., chunk: _Optional[int] = ..., chunks: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...
