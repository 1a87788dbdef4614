from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EpochPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EPOCH_PHASE_UNSPECIFIED: _ClassVar[EpochPhase]
    EPOCH_PHASE_PREPARED: _ClassVar[EpochPhase]
    EPOCH_PHASE_READY: _ClassVar[EpochPhase]
    EPOCH_PHASE_COMMITTED: _ClassVar[EpochPhase]
    EPOCH_PHASE_DRAINING: _ClassVar[EpochPhase]
EPOCH_PHASE_UNSPECIFIED: EpochPhase
EPOCH_PHASE_PREPARED: EpochPhase
EPOCH_PHASE_READY: EpochPhase
EPOCH_PHASE_COMMITTED: EpochPhase
EPOCH_PHASE_DRAINING: EpochPhase

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeResponse(_message.Message):
    __slots__ = ("name", "version", "protocol_version", "executors", "num_threads", "memory_limit_bytes", "monotonic_s", "operators", "speed", "epochs", "data_ports")
    class DataPortsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    EXECUTORS_FIELD_NUMBER: _ClassVar[int]
    NUM_THREADS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    MONOTONIC_S_FIELD_NUMBER: _ClassVar[int]
    OPERATORS_FIELD_NUMBER: _ClassVar[int]
    SPEED_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    DATA_PORTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    protocol_version: int
    executors: _containers.RepeatedScalarFieldContainer[str]
    num_threads: int
    memory_limit_bytes: int
    monotonic_s: float
    operators: _containers.RepeatedScalarFieldContainer[str]
    speed: float
    epochs: _containers.RepeatedCompositeFieldContainer[EpochStatus]
    data_ports: _containers.ScalarMap[str, int]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., protocol_version: _Optional[int] = ..., executors: _Optional[_Iterable[str]] = ..., num_threads: _Optional[int] = ..., memory_limit_bytes: _Optional[int] = ..., monotonic_s: _Optional[float] = ..., operators: _Optional[_Iterable[str]] = ..., speed: _Optional[float] = ..., epochs: _Optional[_Iterable[_Union[EpochStatus, _Mapping]]] = ..., data_ports: _Optional[_Mapping[str, int]] = ...) -> None: ...

class EpochStatus(_message.Message):
    __slots__ = ("epoch", "phase", "rank", "num_active_requests", "reserved_bytes")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    NUM_ACTIVE_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    RESERVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    phase: EpochPhase
    rank: int
    num_active_requests: int
    reserved_bytes: int
    def __init__(self, epoch: _Optional[int] = ..., phase: _Optional[_Union[EpochPhase, str]] = ..., rank: _Optional[int] = ..., num_active_requests: _Optional[int] = ..., reserved_bytes: _Optional[int] = ...) -> None: ...

class PrepareRequest(_message.Message):
    __slots__ = ("epoch", "plan_fingerprint", "rank", "program_json", "peers", "weights", "epoch_key")
    class PeersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: int
        value: str
        def __init__(self, key: _Optional[int] = ..., value: _Optional[str] = ...) -> None: ...
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    PLAN_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    PROGRAM_JSON_FIELD_NUMBER: _ClassVar[int]
    PEERS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_KEY_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    plan_fingerprint: str
    rank: int
    program_json: bytes
    peers: _containers.ScalarMap[int, str]
    weights: _containers.RepeatedCompositeFieldContainer[WeightContent]
    epoch_key: bytes
    def __init__(self, epoch: _Optional[int] = ..., plan_fingerprint: _Optional[str] = ..., rank: _Optional[int] = ..., program_json: _Optional[bytes] = ..., peers: _Optional[_Mapping[int, str]] = ..., weights: _Optional[_Iterable[_Union[WeightContent, _Mapping]]] = ..., epoch_key: _Optional[bytes] = ...) -> None: ...

class WeightContent(_message.Message):
    __slots__ = ("content_hash", "dtype", "shape")
    CONTENT_HASH_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    content_hash: str
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, content_hash: _Optional[str] = ..., dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ...) -> None: ...

class PrepareResponse(_message.Message):
    __slots__ = ("missing",)
    MISSING_FIELD_NUMBER: _ClassVar[int]
    missing: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, missing: _Optional[_Iterable[str]] = ...) -> None: ...

class LoadWeightsRequest(_message.Message):
    __slots__ = ("epoch", "content_hash", "offset_bytes", "data")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CONTENT_HASH_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    content_hash: str
    offset_bytes: int
    data: bytes
    def __init__(self, epoch: _Optional[int] = ..., content_hash: _Optional[str] = ..., offset_bytes: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class LoadWeightsResponse(_message.Message):
    __slots__ = ("received_bytes", "elapsed_s")
    RECEIVED_BYTES_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_S_FIELD_NUMBER: _ClassVar[int]
    received_bytes: int
    elapsed_s: float
    def __init__(self, received_bytes: _Optional[int] = ..., elapsed_s: _Optional[float] = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("epoch",)
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    def __init__(self, epoch: _Optional[int] = ...) -> None: ...

class CommitResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class AbortRequest(_message.Message):
    __slots__ = ("epoch",)
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    def __init__(self, epoch: _Optional[int] = ...) -> None: ...

class AbortResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("epoch",)
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    def __init__(self, epoch: _Optional[int] = ...) -> None: ...

class ReleaseResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReportRequest(_message.Message):
    __slots__ = ("epoch", "min_request_id")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    MIN_REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    min_request_id: int
    def __init__(self, epoch: _Optional[int] = ..., min_request_id: _Optional[int] = ...) -> None: ...

class ReportResponse(_message.Message):
    __slots__ = ("requests", "peak_memory_bytes", "num_dropped")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    PEAK_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    NUM_DROPPED_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[RequestRecord]
    peak_memory_bytes: int
    num_dropped: int
    def __init__(self, requests: _Optional[_Iterable[_Union[RequestRecord, _Mapping]]] = ..., peak_memory_bytes: _Optional[int] = ..., num_dropped: _Optional[int] = ...) -> None: ...

class RequestRecord(_message.Message):
    __slots__ = ("request_id", "instructions")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTIONS_FIELD_NUMBER: _ClassVar[int]
    request_id: int
    instructions: _containers.RepeatedCompositeFieldContainer[InstructionRecord]
    def __init__(self, request_id: _Optional[int] = ..., instructions: _Optional[_Iterable[_Union[InstructionRecord, _Mapping]]] = ...) -> None: ...

class InstructionRecord(_message.Message):
    __slots__ = ("index", "start_s", "stop_s")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    START_S_FIELD_NUMBER: _ClassVar[int]
    STOP_S_FIELD_NUMBER: _ClassVar[int]
    index: int
    start_s: float
    stop_s: float
    def __init__(self, index: _Optional[int] = ..., start_s: _Optional[float] = ..., stop_s: _Optional[float] = ...) -> None: ...

class PingRequest(_message.Message):
    __slots__ = ("epochs",)
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    epochs: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, epochs: _Optional[_Iterable[int]] = ...) -> None: ...

class PingResponse(_message.Message):
    __slots__ = ("instance", "num_active_requests")
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    NUM_ACTIVE_REQUESTS_FIELD_NUMBER: _ClassVar[int]
    instance: str
    num_active_requests: int
    def __init__(self, instance: _Optional[str] = ..., num_active_requests: _Optional[int] = ...) -> None: ...

class ProbeRequest(_message.Message):
    __slots__ = ("duration_s",)
    DURATION_S_FIELD_NUMBER: _ClassVar[int]
    duration_s: float
    def __init__(self, duration_s: _Optional[float] = ...) -> None: ...

class ProbeResponse(_message.Message):
    __slots__ = ("seconds",)
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    seconds: float
    def __init__(self, seconds: _Optional[float] = ...) -> None: ...
