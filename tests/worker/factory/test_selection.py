"""Which rows are trained on, and the record of those that are not."""

from commonlore.protocol.content.copies import RULE
from commonlore.protocol.content.manifests import MAX_SHARD_BYTES, Row
from commonlore.protocol.content.rows import row_hash
from commonlore.protocol.content.selections import DroppedRow, RowSelection
from commonlore.protocol.encoding.codec import decode, encode
from commonlore.worker.factory.selection import OwnedShard, select_rows, text_of

ANA, BEN = b"a" * 20, b"b" * 20


def rows(*pairs, salt=0):
    return tuple(Row(q, a, bytes([salt, n]) * 16) for n, (q, a) in enumerate(pairs))


def test_copies_are_left_out_and_recorded_by_their_hashes():
    ana = rows(("What is the code of amnesia?", "F44.0"), ("And of vertigo?", "R42"))
    ben = rows(("what is the code of AMNESIA", "F44.0"), ("Which planet is largest?", "Jupiter"), salt=1)
    selected = select_rows([OwnedShard(ANA, ana), OwnedShard(BEN, ben)])
    assert [(owned.payee, owned.row) for owned in selected.rows] == [(ANA, r) for r in ana] + [(BEN, ben[1])]
    dropped = DroppedRow(row_hash(ben[0]), "same", row_hash(ana[0]), 1000)
    assert selected.record == RowSelection(RULE, (dropped,))
    assert selected.dropped_by_kind() == {"same": 1}
    assert decode(RowSelection, encode(selected.record), MAX_SHARD_BYTES) == selected.record


def test_question_and_answer_are_compared_together():
    assert text_of(Row("q", "a", bytes(32))) == "q\na"
    ana, ben = rows(("What is it?", "Amnesia")), rows(("What is it?", "Vertigo"), salt=1)
    assert not select_rows([OwnedShard(ANA, ana), OwnedShard(BEN, ben)]).record.dropped


def test_the_same_row_under_another_salt_repeats():
    twice = rows(("q one", "a two"), ("q one", "a two"))
    assert select_rows([OwnedShard(ANA, twice)]).dropped_by_kind() == {"repeated": 1}
