"""What is gossiped: small sealed announcements.

Bodies are pulled by content id; nothing here is larger than 4 KiB.

`issued_ms` is Unix milliseconds; `seq` rises with each announcement of the same key (peer, or peer and id).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..content.manifests import Split
from ..encoding.fields import U16, U32, U64, U128, Hash32, Label, Name, Size
from ..ids import Cid
from ..signing.bindings import SignedBinding

ADVERT_LIFETIME_MS = 90_000
MAX_CLOCK_SKEW_MS = 30_000


@dataclass(frozen=True, slots=True)
class Rates:
    """Token units: per 1,000 prompt tokens, per 1,000 output tokens, and per request."""

    prompt_per_1000: U128
    output_per_1000: U128
    request_fee: U128


@dataclass(frozen=True, slots=True)
class WorkerAd:
    """A worker's offer and load.

    `binding.session_key` is its lane; `resident` the adapters it holds ready (the most recently used first),
    `resident_ranks` the rank of each, where it says; up to `slots` different ones run at once.
    `base_name` is what it calls its base, for people.
    """

    binding: SignedBinding
    base: Cid
    artefact: Cid
    rates: Rates
    base_split: Split
    max_context: U32
    max_batch: U16
    queue_depth: U16
    running: U16
    free_pages: U32
    resident: Annotated[tuple[Cid, ...], Size(0, 32)]
    resident_count: U32
    max_rank: U16
    addresses: Annotated[tuple[Label, ...], Size(0, 8)]
    seq: U64
    issued_ms: U64
    resident_ranks: Annotated[tuple[U16, ...], Size(0, 32)] = ()
    slots: U16 = 0
    base_name: Name | None = None


@dataclass(frozen=True, slots=True)
class PeerAd:
    """A peer says where it is; a worker also which base it serves, so that others know which adverts to
    follow.
    """

    role: Label
    addresses: Annotated[tuple[Label, ...], Size(0, 8)]
    seq: U64
    issued_ms: U64
    base: Cid | None = None


@dataclass(frozen=True, slots=True)
class AdapterRecord:
    """`alias` (owner/name) points to an adapter manifest.

    `index` is the CID of its sealed IndexManifest, when there is one, `faithfulness` that of the sealed
    Faithfulness of this index, `difference` that of the IndexDifference by which withdrawn rows left it.
    """

    alias: Label
    adapter: Cid
    base: Cid
    index: Cid | None
    evaluation: Hash32 | None
    loss_before_micro: U64
    loss_after_micro: U64
    seq: U64
    issued_ms: U64
    faithfulness: Cid | None = None
    difference: Cid | None = None


@dataclass(frozen=True, slots=True)
class DatanetRecord:
    """`name` at `version` points to a Datanet manifest."""

    name: Label
    version: U32
    datanet: Cid
    seq: U64
    issued_ms: U64


@dataclass(frozen=True, slots=True)
class MeasurementRecord:
    """`measurer`, the Ed25519 key that seals this, has measured another's adapter: `measurement` is the CID
    of its sealed Faithfulness. It changes no pay: it is for people to see.
    """

    measurer: Hash32
    adapter: Cid
    measurement: Cid
    seq: U64
    issued_ms: U64


Advert = WorkerAd | PeerAd | AdapterRecord | DatanetRecord | MeasurementRecord
