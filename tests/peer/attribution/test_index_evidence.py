"""What is fetched of a stranger's index: as much as the largest may have, and no more."""

from __future__ import annotations

import trio

from commonlore.peer.attribution.index_evidence import MAX_INDEX_BYTES, index_of
from commonlore.protocol.content.manifests import (
    MAX_ROWS_PER_SHARD,
    AdapterManifest,
    IndexedContributor,
    IndexManifest,
    PriorWeight,
    Recipe,
)
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.encoding.codec import record_cid
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.ids import Address, Cid, cid_of, keccak256
from commonlore.protocol.signing.envelope import seal
from commonlore.protocol.signing.keys import PeerKey

AUTHOR, PAYEE = PeerKey.generate(keccak256(b"author")), Address(b"\x0a" * 20)
MANIFEST = AdapterManifest(
    "a", cid_of(b"base"), cid_of(b"weights"), 7, 8, 16, ("q_proj",), bytes(32), (cid_of(b"d"),),
    Recipe("test", 1, 1, 1, 8, 16, 0, 1, "fp32", "{question}"), None, None, DEFAULT_SPLIT,
    (PriorWeight(PAYEE, PPM),), "CC0-1.0", AUTHOR.public, PAYEE,
)  # fmt: skip


class Offered:
    """Content that somebody offers, and how much of it was asked for at most."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.most = raw, 0

    async def get(self, cid: Cid, max_bytes: int) -> bytes:
        self.most = max_bytes
        return self.raw


def test_the_largest_index_that_may_be_is_fetched_and_little_more_could_be() -> None:
    contributors = tuple(IndexedContributor(Address(n.to_bytes(20, "big")), 25) for n in range(4_096))
    index = IndexManifest(
        record_cid(MANIFEST), "m", 32_768, bytes(32), MAX_ROWS_PER_SHARD, cid_of(b"rows"), bytes(32),
        (bytes(32),) * MAX_ROWS_PER_SHARD, contributors, cid_of(b"sums"),
    )  # fmt: skip
    content = Offered(seal(AUTHOR, index, MAX_INDEX_BYTES))
    found = trio.run(index_of, content, cid_of(content.raw), MANIFEST)
    assert found.record == index
    assert content.most < 3 * len(content.raw), "more is decoded for minutes by whoever scores"
