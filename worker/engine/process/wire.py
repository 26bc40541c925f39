"""What a node and its engine process say to each other: records of canonical CBOR, one a frame, over a socket
pair.

Rules of this file:
- The node speaks first (`Configure`), the engine answers `Ready` or `Broken`. After that either speaks at any
  time.
- A call carries a number of the node's choosing and is answered once: `Done`, `Loaded`, `Counted`,
  `Measured` or `CallFailed`. A request is answered by its own `TokenEvent`s, the last with `finish`, or by
  `RequestFailed`.
- An error travels as its code and sentence; `error_of` makes it an exception again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ....protocol.encoding.fields import U32, U64, Name, Size, Text
from ....protocol.errors import (
    AttributionFailed,
    CommonloreError,
    ConfigError,
    EngineFailed,
    InvalidAdapter,
    InvalidModel,
    LocalProtocolError,
    MissingDependency,
    NotFound,
    Refused,
    RemoteProtocolError,
)
from ....protocol.ids import Cid
from ....protocol.requests.records import ChatMessage
from ..types import (
    AdapterSource,
    EngineConfig,
    EngineFacts,
    EngineStats,
    GenerationRequest,
    RequestKey,
    TokenEvent,
)


@dataclass(frozen=True, slots=True)
class Configure:
    """node → engine, first."""

    config: EngineConfig


@dataclass(frozen=True, slots=True)
class Abort:
    """node → engine: nobody listens to this request any more."""

    request_id: RequestKey


@dataclass(frozen=True, slots=True)
class Hold:
    """node → engine: this request's reader is far behind, let it wait (`held`); or: it has caught up."""

    request_id: RequestKey
    held: bool


@dataclass(frozen=True, slots=True)
class Load:
    """node → engine: read and check an adapter, and keep it in RAM."""

    call: U64
    source: AdapterSource


@dataclass(frozen=True, slots=True)
class Unload:
    """node → engine: let go of an adapter."""

    call: U64
    adapter: Cid


@dataclass(frozen=True, slots=True)
class Count:
    """node → engine: how many prompt tokens are these turns?"""

    call: U64
    messages: Annotated[tuple[ChatMessage, ...], Size(1, 256)]


@dataclass(frozen=True, slots=True)
class Measure:
    """node → engine: your load, please."""

    call: U64


@dataclass(frozen=True, slots=True)
class Failure:
    """A CommonloreError on its way; `retryable` matters to Refused only."""

    code: Name
    message: Text
    retryable: bool = True


@dataclass(frozen=True, slots=True)
class Ready:
    """engine → node: the base is loaded."""

    facts: EngineFacts


@dataclass(frozen=True, slots=True)
class Broken:
    """engine → node: the base cannot be loaded; the process ends."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Events:
    """engine → node: what became ready together, at most one event a request."""

    events: Annotated[tuple[TokenEvent, ...], Size(1, 4096)]


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """engine → node: the request was not even queued."""

    request_id: RequestKey
    failure: Failure


@dataclass(frozen=True, slots=True)
class Done:
    """engine → node: the call succeeded."""

    call: U64


@dataclass(frozen=True, slots=True)
class Loaded:
    """engine → node: the answer to `Load`, and what the adapter takes in RAM."""

    call: U64
    bytes: U64


@dataclass(frozen=True, slots=True)
class Counted:
    """engine → node: the answer to `Count`."""

    call: U64
    tokens: U32


@dataclass(frozen=True, slots=True)
class Measured:
    """engine → node: the answer to `Measure`."""

    call: U64
    stats: EngineStats


@dataclass(frozen=True, slots=True)
class CallFailed:
    """engine → node: the call failed."""

    call: U64
    failure: Failure


Greeting = Ready | Broken
GREETINGS: tuple[type[Greeting], ...] = (Ready, Broken)
Command = GenerationRequest | Abort | Hold | Load | Unload | Count | Measure
COMMANDS: tuple[type[Command], ...] = (GenerationRequest, Abort, Hold, Load, Unload, Count, Measure)
Reply = Events | RequestFailed | Done | Loaded | Counted | Measured | CallFailed
REPLIES: tuple[type[Reply], ...] = (Events, RequestFailed, Done, Loaded, Counted, Measured, CallFailed)

_ERRORS = (
    AttributionFailed,
    ConfigError,
    MissingDependency,
    InvalidAdapter,
    InvalidModel,
    NotFound,
    EngineFailed,
    LocalProtocolError,
    RemoteProtocolError,
)


def failure_of(error: CommonloreError) -> Failure:
    """An error as it travels."""
    message = str(error).encode()[:4096].decode(errors="ignore")
    return Failure(error.code[:64], message, error.retryable if isinstance(error, Refused) else True)


def error_of(failure: Failure) -> CommonloreError:
    """The error that travelled. Codes that are not a class's are refusals."""
    for error in _ERRORS:
        if error.code == failure.code:
            return error(failure.message)
    return Refused(failure.code, failure.message, retryable=failure.retryable)
