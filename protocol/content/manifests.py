"""What is stored, described: base models and artefacts, Datanets and shards, adapters.

A manifest's CID is its id.

Manifests commit what exists before anyone judges it. Statements about an id (evaluation, attribution index)
stand outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..encoding.fields import (
    PPM,
    U8,
    U16,
    U32,
    U64,
    Hash32,
    Key32,
    Label,
    Name,
    Signature64,
    Signature65,
    Size,
    Text,
)
from ..ids import Address, Cid
from .compositions import MAX_ADAPTERS, AdapterWeight
from .retraining import Retrained

MAX_ROWS_PER_SHARD = 100_000
MAX_ROW_BYTES = 16_384
MAX_SHARD_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of reference weights.

    `digest` is sha2-256 of its little-endian row-major bytes; dtype as in safetensors.
    """

    name: Label
    dtype: Annotated[str, Size(1, 8)]
    shape: Annotated[tuple[U32, ...], Size(0, 8)]
    digest: Hash32


@dataclass(frozen=True, slots=True)
class Setting:
    """A named configuration field with its value as canonical JSON text (numbers by `repr`)."""

    name: Name
    value: Label


@dataclass(frozen=True, slots=True)
class BaseManifest:
    """Reference weights of a base model, whatever library loads them. Its CID is the base id.

    It says what is computed and nothing else: a name and a licence are for people, and stand outside.
    """

    family: Name
    settings: Annotated[tuple[Setting, ...], Size(1, 64)]
    tensors: Annotated[tuple[Tensor, ...], Size(1, 100_000)]
    tokenizer: Hash32
    chat_template: Hash32


@dataclass(frozen=True, slots=True)
class ArtefactManifest:
    """What is really loaded: format (`torch`, `exl2`), dtype or quantisation, and the files' digests beyond
    the reference's.
    """

    reference: Cid
    format: Name
    precision: Name
    files: Annotated[tuple[Hash32, ...], Size(0, 1024)] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One example of a Datanet.

    `answer` is what training scores; salt keeps its leaf hash from being guessed.
    """

    question: Text
    answer: Text
    salt: Hash32


@dataclass(frozen=True, slots=True)
class ShardHeader:
    """A contributor's rows of one Datanet version. `rows_root` is the Merkle root over salted row hashes,
    `rows` the CID of the canonical CBOR of the tuple of rows. `notice` travels with the data (licence
    notices).
    """

    datanet: Label
    contributor: Name
    ed25519_key: Key32
    payee: Address
    licence: Label
    origin: Label
    notice: Text
    row_count: U32
    rows_root: Hash32
    rows: Cid


@dataclass(frozen=True, slots=True)
class Shard:
    """A header with both of the contributor's signatures: Ed25519 under the domain `shard`, and the payee's
    over EIP-712.
    """

    header: ShardHeader
    ed25519_signature: Signature64
    payee_signature: Signature65


@dataclass(frozen=True, slots=True)
class DatanetManifest:
    """One version of a Datanet.

    `shards` are CIDs of `Shard`s, none where all were withdrawn; `contributors_root` the Merkle root of their
    sorted payees. `withdrawn` is the CID of the sealed withdrawals of shards of earlier versions.
    """

    name: Name
    purpose: Label
    kind: Name
    licence: Label
    curator: Key32
    version: U32
    previous: Cid | None
    shards: Annotated[tuple[Cid, ...], Size(0, 4096)]
    contributors_root: Hash32
    withdrawn: Cid | None = None


@dataclass(frozen=True, slots=True)
class Split:
    """How a price is divided, in basis points summing to 10,000."""

    platform: U16
    worker: U16
    author: U16
    work_pool: U16
    contributors: U16


@dataclass(frozen=True, slots=True)
class PriorWeight:
    """A contributor's part where no influence is found, in parts per million of the whole."""

    payee: Address
    ppm: U32


@dataclass(frozen=True, slots=True)
class Recipe:
    """Every parameter of a training run.

    Rates and ratios are parts per million; `templates` are (question → chat) formats.
    """

    trainer: Label
    steps: U32
    batch_size: U16
    learning_rate_ppb: U64
    rank: U16
    alpha: U16
    dropout_ppm: U32
    seed: U64
    precision: Name
    question_template: Label


@dataclass(frozen=True, slots=True)
class Merge:
    """How an adapter was computed from others, without training: enough to compute it again.

    `parts` weigh in parts per million of 1 and need not make 1. `density_ppm` is what TIES and DARE keep of
    each part (all, where the method prunes nothing), `seed` decides what DARE drops.
    """

    method: Name
    parts: Annotated[tuple[AdapterWeight, ...], Size(2, MAX_ADAPTERS)]
    density_ppm: U32 = PPM
    seed: U64 = 0


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """How many of an adapter's rows training only measured, and how many its gradient index holds; which they
    are, `indexing` says.
    """

    heldout: U32
    rows: U32


@dataclass(frozen=True, slots=True)
class AdapterManifest:
    """A LoRA adapter; its CID is the adapter id.

    `weights` and `early_checkpoint` are CIDs of safetensors blobs. A merged adapter says so in `merge`, whose
    parts are its `parents`; its recipe has no steps. `selection` is the CID of the `RowSelection`. Without
    `indexed` no index of it counts.
    """

    name: Name
    base: Cid
    weights: Cid
    weights_size: U64
    rank: U16
    alpha: U16
    targets: Annotated[tuple[Name, ...], Size(1, 32)]
    template: Hash32
    datanets: Annotated[tuple[Cid, ...], Size(1, 64)]
    recipe: Recipe
    early_checkpoint: Cid | None
    factors: Cid | None
    split: Split
    priors: Annotated[tuple[PriorWeight, ...], Size(1, 4096)]
    licence: Label
    author: Key32
    author_payee: Address
    parents: Annotated[tuple[Cid, ...], Size(0, MAX_ADAPTERS)] = ()
    merge: Merge | None = None
    selection: Cid | None = None
    indexed: IndexPlan | None = None
    retrained: Retrained | None = None


@dataclass(frozen=True, slots=True)
class IndexedContributor:
    """A contributor to an index, and how many of its rows, in their order, are its own."""

    payee: Address
    row_count: U32


@dataclass(frozen=True, slots=True)
class IndexManifest:
    """A gradient index: a statement about an adapter, sealed by whoever computed it. `rows` is the CID of the
    rows in the order of `row_hashes`: of each its weight, one byte, and `width` signs, the first in the
    highest bit, set where positive; `rows_root` is their Merkle root. `sums` is the CID of the exact sums of
    each contributor's rows, `width` little-endian int32 each. `seed`, the projection's, is that of the
    adapter's id and of `beacon`, which nobody knew before the id.
    """

    adapter: Cid
    method: Label
    width: U32
    seed: Hash32
    row_count: U32
    rows: Cid
    rows_root: Hash32
    row_hashes: Annotated[tuple[Hash32, ...], Size(0, MAX_ROWS_PER_SHARD)]
    contributors: Annotated[tuple[IndexedContributor, ...], Size(1, 4096)]
    sums: Cid
    beacon: Annotated[bytes, Size(0, 64)] = b""

    @property
    def payees(self) -> tuple[Address, ...]:
        """The contributors' accounts, in the order of their rows and sums."""
        return tuple(contributor.payee for contributor in self.contributors)

    @property
    def owners(self) -> list[Address]:
        """Whose each row is."""
        return [each.payee for each in self.contributors for _ in range(each.row_count)]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in `rows`."""
        return 1 + self.width // 8

    @property
    def sums_bytes(self) -> int:
        """Bytes of `sums`."""
        return 4 * self.width * len(self.contributors)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Held-out loss (micro-nats a token) before and after: a statement about an adapter."""

    adapter: Cid
    rows: U32
    loss_before_micro: U64
    loss_after_micro: U64
    reviewed_bits: U8 = 0
