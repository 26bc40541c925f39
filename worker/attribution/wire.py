"""What a node and its attribution process say to each other: records of canonical CBOR, one a frame.

Rules of this file:
- The process says `Ready` or `Broken` first. After that the node calls and the process answers, one call at a
  time, each answer under its call's number; a node that has stopped waiting skips the answer it no longer
  wants.
- What may be large (rows, indexes) goes by file: both sides share a disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ...protocol.attribution.faithfulness import Correlations
from ...protocol.content.manifests import Row
from ...protocol.encoding.fields import U16, U32, U64, Hash32, Name, Size, Text
from ...protocol.ids import Cid
from ...protocol.receipts.records import MAX_CONTRIBUTORS, Weight
from ...protocol.requests.records import MAX_OUTPUT_TOKENS, ChatMessage, Prompt
from ..engine.process.wire import Failure

MAX_INDEX_BYTES = 1 << 28
MAX_VARIANTS = 40
MAX_MEASURED_ROWS = 4_096
FilePath = Annotated[str, Size(1, 4096)]
Vector = Annotated[bytes, Size(1, 1 << 17)]


@dataclass(frozen=True, slots=True)
class LoadSubject:
    """Make an adapter known (see `attributor.Subject`)."""

    call: U64
    adapter: Cid
    early: FilePath
    rank: U16
    alpha: U16
    targets: Annotated[tuple[Name, ...], Size(1, 32)]
    seed: Hash32
    width: U32
    curvature: FilePath | None = None
    beacon: Annotated[bytes, Size(0, 64)] = b""
    base: Cid | None = None


@dataclass(frozen=True, slots=True)
class ForgetSubject:
    """Free an adapter and its index."""

    call: U64
    adapter: Cid


@dataclass(frozen=True, slots=True)
class UseIndex:
    """Score an adapter's answers against the encoded IndexManifest in `index` and the sums in `sums`."""

    call: U64
    index: FilePath
    sums: FilePath


@dataclass(frozen=True, slots=True)
class BeginIndex:
    """Build an adapter's index of the encoded `OwnedRow`s in `rows`, keeping vectors in `partial`."""

    call: U64
    adapter: Cid
    rows: FilePath
    partial: FilePath


@dataclass(frozen=True, slots=True)
class AdvanceIndex:
    """Compute the next `count` rows of the build."""

    call: U64
    adapter: Cid
    count: U32


@dataclass(frozen=True, slots=True)
class FinishIndex:
    """Write the encoded manifest of a build whose rows are all done to `index`, its sums to `sums`."""

    call: U64
    adapter: Cid
    index: FilePath
    sums: FilePath


@dataclass(frozen=True, slots=True)
class ScoreAnswer:
    """Whose rows led to this answer? `text` counts where there are no `output` tokens."""

    call: U64
    adapter: Cid
    messages: Annotated[tuple[ChatMessage, ...], Size(1, 256)]
    output: Annotated[tuple[U32, ...], Size(0, MAX_OUTPUT_TOKENS)]
    text: Text


@dataclass(frozen=True, slots=True)
class MeasureLosses:
    """How likely is an answer without each of its prompt's parts? `seed` says which of many go together."""

    call: U64
    adapter: Cid
    prompt: Prompt
    seed: Hash32
    output: Annotated[tuple[U32, ...], Size(1, MAX_OUTPUT_TOKENS)]


@dataclass(frozen=True, slots=True)
class CheckIndex:
    """Does everything in an index follow from its rows? `rows` and `sums` are its blobs."""

    call: U64
    index: FilePath
    rows: FilePath
    sums: FilePath


@dataclass(frozen=True, slots=True)
class RecheckRow:
    """Is what stands at `position` in an index's `rows` the gradient of this row?"""

    call: U64
    adapter: Cid
    index: FilePath
    rows: FilePath
    position: U32
    row: Row


@dataclass(frozen=True, slots=True)
class BeginMeasuring:
    """Measure the faithfulness of the index in `index` with its `rows` (see `measurement`)."""

    call: U64
    adapter: Cid
    index: FilePath
    rows: FilePath
    folder: FilePath
    places: Annotated[tuple[U32, ...], Size(1, MAX_MEASURED_ROWS)]
    subsets: U16


@dataclass(frozen=True, slots=True)
class AdvanceMeasuring:
    """Train on the next half."""

    call: U64
    adapter: Cid


@dataclass(frozen=True, slots=True)
class FinishMeasuring:
    """Every half was trained on: what comes out?"""

    call: U64
    adapter: Cid


@dataclass(frozen=True, slots=True)
class Ready:
    """The base is loaded."""


@dataclass(frozen=True, slots=True)
class Broken:
    """The base cannot be loaded; the process ends."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Done:
    """The call succeeded."""

    call: U64


@dataclass(frozen=True, slots=True)
class Advanced:
    """The build stands at `done` rows of `total`."""

    call: U64
    done: U32
    total: U32


@dataclass(frozen=True, slots=True)
class Scored:
    """An answer's vector and weights; none where no influence was found."""

    call: U64
    query: Vector
    weights: Annotated[tuple[Weight, ...], Size(0, MAX_CONTRIBUTORS)]


@dataclass(frozen=True, slots=True)
class Measured:
    """Losses in billionths of a nat: of every planned variant, then of the whole prompt without adapter."""

    call: U64
    nano_nats: Annotated[tuple[U64, ...], Size(2, MAX_VARIANTS + 1)]


@dataclass(frozen=True, slots=True)
class Rechecked:
    """Whether a row of an index is what it says."""

    call: U64
    agrees: bool


@dataclass(frozen=True, slots=True)
class Compared:
    """How faithful an index is."""

    call: U64
    found: Correlations


@dataclass(frozen=True, slots=True)
class CallFailed:
    """The call failed."""

    call: U64
    failure: Failure


Greeting = Ready | Broken
GREETINGS: tuple[type[Greeting], ...] = (Ready, Broken)
Command = (
    LoadSubject
    | ForgetSubject
    | UseIndex
    | BeginIndex
    | AdvanceIndex
    | FinishIndex
    | ScoreAnswer
    | MeasureLosses
    | CheckIndex
    | RecheckRow
    | BeginMeasuring
    | AdvanceMeasuring
    | FinishMeasuring
)
COMMANDS: tuple[type[Command], ...] = (
    LoadSubject,
    ForgetSubject,
    UseIndex,
    BeginIndex,
    AdvanceIndex,
    FinishIndex,
    ScoreAnswer,
    MeasureLosses,
    CheckIndex,
    RecheckRow,
    BeginMeasuring,
    AdvanceMeasuring,
    FinishMeasuring,
)
Reply = Done | Advanced | Scored | Measured | Rechecked | Compared | CallFailed
REPLIES: tuple[type[Reply], ...] = (Done, Advanced, Scored, Measured, Rechecked, Compared, CallFailed)
