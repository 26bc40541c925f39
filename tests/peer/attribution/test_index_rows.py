"""What a check reads: whose a row is that several committed."""

from dataclasses import make_dataclass

from commonlore.peer.attribution.index_rows import committed_rows
from commonlore.peer.datanets.shards import PulledDatanet, PulledShard
from commonlore.protocol.content.manifests import Row, ShardHeader
from commonlore.protocol.content.rows import row_hash
from commonlore.protocol.ids import Address, cid_of

ANA, BEN = Address(b"a" * 20), Address(b"b" * 20)
FIRST, OWN = Row("Which?", "the first", b"\x01" * 32), Row("And?", "his own", b"\x02" * 32)


def shard_of(payee: Address, *rows: Row) -> PulledShard:
    header = ShardHeader(
        "codes", "c", bytes(32), payee, "CC0-1.0", "", "", len(rows), bytes(32), cid_of(payee)
    )
    return PulledShard(cid_of(payee), make_dataclass("Signed", ["header"])(header), rows)


def datanet_of(*shards: PulledShard) -> PulledDatanet:
    return PulledDatanet(cid_of(b"d"), None, shards)  # type: ignore[arg-type]


def test_a_row_is_of_who_committed_it_first():
    ana, ben = shard_of(ANA, FIRST), shard_of(BEN, OWN, FIRST)
    by_ana = {row_hash(FIRST): (ANA, FIRST), row_hash(OWN): (BEN, OWN)}
    assert committed_rows([datanet_of(ana, ben)]) == by_ana
    assert committed_rows([datanet_of(ana), datanet_of(ben)]) == by_ana
    by_ben = {row_hash(FIRST): (BEN, FIRST), row_hash(OWN): (BEN, OWN)}
    assert committed_rows([datanet_of(ben, ana)]) == by_ben
