"""Gradient indexes on chain: what integers can show to be wrong, and that true ones stand. Commitments and
proofs are those that Python makes of a published index."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonlore.contracts.client.indexing import INDEX_PROOFS, commitment_tuple, proof_argument
from commonlore.contracts.deploying.terms import CheckTerms
from commonlore.contracts.staging.cast import BOND, LANE, TERMS, WATCHER, key_of
from commonlore.contracts.staging.stage import Stage
from commonlore.protocol.attribution.index_frauds import (
    IndexFraudKind,
    IndexOpenings,
    committed_trees,
    find_index_fraud,
)
from commonlore.protocol.attribution.index_trees import (
    CHUNK_PLACES,
    PublishedIndex,
    RunningSum,
    build_index_trees,
    sum_chunk,
    sum_tree,
    sums_root,
    write_sum,
)
from commonlore.protocol.attribution.scoring import sum_rows, write_sums
from commonlore.protocol.attribution.written_rows import HEAVIEST, LIGHTEST, read_rows, write_row
from commonlore.protocol.content.manifests import IndexedContributor, IndexManifest
from commonlore.protocol.encoding.merkle import MerkleTree
from commonlore.protocol.errors import RemoteProtocolError
from commonlore.protocol.ids import Address, checksummed, cid_of, keccak256

CONTRIBUTOR, ATTRIBUTOR = 2, 4
MAKER = key_of("attributor").address
OWNERS = (Address(b"\x0a" * 20), Address(b"\x0b" * 20))
WIDTH, COUNTS = 2 * CHUNK_PLACES + 8, (2, 3)
"""Three chunks, the last of 8 places; five rows of two contributors."""
ADAPTER, INDEX = cid_of(b"adapter"), cid_of(b"index")


def vectors(seed=1, rows=5, width=WIDTH):
    random = np.random.default_rng(seed)
    weights = random.integers(LIGHTEST, HEAVIEST + 1, (rows, 1))
    return (weights * random.choice((-1, 1), (rows, width))).astype(np.int8)


def publish(rows=None, owners=OWNERS, counts=COUNTS, sums=None, written=None, hashes=None):
    """An index as its author publishes it; `sums`, `written` and `hashes` may be wrong."""
    rows = vectors(rows=sum(counts)) if rows is None else rows
    blob = written or b"".join(write_row(row) for row in rows)
    ends = np.cumsum(counts)
    due = [sum_rows(rows[end - count : end]) for end, count in zip(ends, counts, strict=True)]
    manifest = IndexManifest(
        adapter=ADAPTER,
        method="test",
        width=rows.shape[1],
        seed=bytes(32),
        row_count=len(rows),
        rows=cid_of(b"rows"),
        rows_root=bytes(32),
        row_hashes=hashes or tuple(keccak256(bytes([number])) for number in range(len(rows))),
        contributors=tuple(map(IndexedContributor, owners, counts)),
        sums=cid_of(b"sums"),
    )
    return PublishedIndex(manifest, blob, write_sums(due if sums is None else sums))


class Committed:
    """An index on the stage, as Python commits to it."""

    def __init__(self, stage, published=None, trees=None, **changes):
        self.stage, self.published = stage, published or publish()
        self.trees = trees or build_index_trees(self.published)
        made = self.trees.commitment(MAKER, INDEX, self.published.manifest)
        self.commitment = replace(made, **changes)
        self.fields = commitment_tuple(self.commitment)
        self.id = stage.network.read("Indexes", "indexId", self.fields)
        self.opened = IndexOpenings(self.published, self.trees)

    def commit(self, sender=MAKER):
        return self.stage.network.refusal(sender, "Indexes", "commitIndex", self.fields)

    def committed(self):
        assert self.commit() is None
        return self

    def prove(self, kind, *arguments):
        """The error's name, None where the proof was taken."""
        given = [proof_argument(each) for each in arguments]
        return self.stage.network.refusal(WATCHER, "Indexes", INDEX_PROOFS[kind], self.fields, *given)

    def challenge(self):
        """What a watcher finds in what was published, and what the contract says to it."""
        fraud = find_index_fraud(self.commitment, self.published)
        return (None, None) if fraud is None else (fraud.kind, self.prove(fraud.kind, *fraud.arguments))

    def is_good(self):
        return self.stage.network.read("Indexes", "isGood", self.id)


@pytest.fixture(scope="module")
def whole_stage():
    stage = Stage(replace(TERMS, checks=CheckTerms(minimum_bond=100)))
    stage.bond(MAKER, ATTRIBUTOR, BOND)
    return stage


@pytest.fixture
def stage(whole_stage):
    with whole_stage.undone() as stage:
        now = stage.network.now
        yield stage
        stage.network.wait(now - stage.network.now)


def changed_sum(contributor, place, by=1):
    rows = vectors()
    sums = [sum_rows(rows[:2]), sum_rows(rows[2:])]
    sums[contributor][place] += by
    return publish(rows, sums=sums)


def test_a_true_index_counts_after_its_window_and_no_proof_against_it_is_taken(stage):
    index = Committed(stage).committed()
    opened, kind = index.opened, IndexFraudKind
    assert index.commit() == "AlreadyCommitted"
    for number in range(5):
        assert index.prove(kind.BAD_ROW, opened.row(number)) == "NotFraud"
        for place in (0, 7, 1_023, 1_024, 2_047, 2_048, WIDTH - 1):
            assert index.prove(kind.BAD_SUM, *opened.step(number, place)) == "NotFraud"
        for other in range(5):
            pair = opened.running(number), opened.running(other)
            assert index.prove(kind.TWICE, *pair) == "NotFraud"
            due = "NotFraud" if other == number + 1 else "BadProof"
            assert index.prove(kind.UNSORTED, *pair) == due
    for number, (start, end) in enumerate(((0, 2), (2, 5))):
        closing = opened.closing(number)
        before = (opened.closing(0),) if number else ()
        for row in range(5):
            due = "NotFraud" if row + 1 == end else "BadProof"
            assert index.prove(kind.BAD_CLOSING, closing, (opened.running(row),)) == due
            due = "NotFraud" if row == start else "BadProof"
            assert index.prove(kind.GAP, before, closing, (opened.running(row),)) == due
        assert index.prove(kind.BAD_CLOSING, closing, ()) == "BadProof"
        assert index.prove(kind.GAP, before, closing, ()) == "BadProof"
    assert index.challenge() == (None, None)
    assert not index.is_good()
    stage.network.wait(TERMS.window)
    assert index.is_good()


@pytest.mark.parametrize("contributor", [0, 1])
@pytest.mark.parametrize("place", [0, 1_023, 1_024, WIDTH - 1])
@pytest.mark.parametrize("by", [1, -1, 1 << 20])
def test_a_closing_sum_that_is_not_of_its_rows_is_shown(stage, contributor, place, by):
    index = Committed(stage, changed_sum(contributor, place, by)).committed()
    number = (1, 4)[contributor]
    other = (place + 1) % WIDTH
    assert index.prove(IndexFraudKind.BAD_SUM, *index.opened.step(number, other)) == "NotFraud"
    assert index.challenge() == (IndexFraudKind.BAD_SUM, None)
    assert stage.network.tokens(WATCHER) == BOND // 2
    assert not index.is_good()
    assert index.challenge() == (IndexFraudKind.BAD_SUM, "AlreadyKilled")
    stage.bond(MAKER, ATTRIBUTOR, BOND)
    assert index.commit() == "AlreadyCommitted", "what was shown wrong does not come back"


def test_a_sum_in_the_tree_of_sums_that_is_no_running_sum_is_shown(stage):
    published = changed_sum(1, 5)
    index = Committed(stage, published, build_index_trees(published, closes_as_published=False)).committed()
    assert index.challenge() == (IndexFraudKind.BAD_CLOSING, None)


def running_changed(published, number, **changes):
    """The trees of an index with one running sum's leaf changed."""
    trees = build_index_trees(published)
    running = list(trees.running)
    running[number] = replace(running[number], **changes)
    return replace(trees, running=tuple(running))


def step_with(index, number, numbers, place):
    """A step whose present sum is `numbers`, which the trees commit to."""
    row, before, now, _ = index.opened.step(number, place)
    path = tuple(sum_tree(numbers).proof(place // CHUNK_PLACES))
    return row, before, replace(now, numbers=sum_chunk(numbers, place), path=path), place


class Opened(IndexOpenings):
    """Openings of an index some of whose running sums are other numbers."""

    def __init__(self, published, trees, numbers):
        super().__init__(published, trees)
        self._other = numbers

    def _numbers(self, number):
        return self._other.get(number) or super()._numbers(number)


@pytest.mark.parametrize("number", [0, 2, 3])
def test_a_running_sum_that_does_not_follow_is_shown_at_any_row(stage, number):
    published = publish()
    wrong = published.sum_at(number)
    wrong[1_030] -= 1
    numbers = write_sum(wrong)
    trees = running_changed(published, number, sum_root=sum_tree(numbers).root)
    index = Committed(stage, published, trees).committed()
    index.opened = Opened(published, trees, {number: numbers})
    assert index.prove(IndexFraudKind.BAD_SUM, *index.opened.step(number, 1_031)) == "NotFraud"
    with pytest.raises(RemoteProtocolError, match="not those that were committed"):
        index.challenge()  # it follows from nothing that was published
    assert index.prove(IndexFraudKind.BAD_SUM, *index.opened.step(number, 1_030)) is None


@pytest.mark.parametrize(("cut", "place"), [(-4, 2_050), (4, 2_050)])
def test_a_chunk_of_another_length_is_shown(stage, cut, place):
    published = publish()
    honest = write_sum(published.sum_at(4))
    numbers = honest[:cut] if cut < 0 else honest + bytes(cut)
    trees = running_changed(published, 4, sum_root=sum_tree(numbers).root)
    index = Committed(stage, published, trees).committed()
    index.opened = Opened(published, trees, {4: numbers})
    assert index.prove(IndexFraudKind.BAD_SUM, *index.opened.step(4, place)) is None


def test_a_running_sum_of_another_row_is_shown(stage):
    published = publish()
    trees = running_changed(published, 3, row_hash=keccak256(b"another"))
    index = Committed(stage, published, trees).committed()
    assert index.prove(IndexFraudKind.BAD_SUM, *index.opened.step(3, 0)) is None


def test_a_sum_that_goes_on_over_another_contributor_is_shown(stage):
    """The second contributor's first sum holds the first one's rows, too."""
    published = publish()
    numbers = write_sum(published.sum_at(1) + published.sum_at(2))
    trees = running_changed(published, 2, sum_root=sum_tree(numbers).root)
    index = Committed(stage, published, trees).committed()
    index.opened = Opened(published, trees, {2: numbers})
    assert index.prove(IndexFraudKind.BAD_SUM, *index.opened.step(2, 0)) is None


@pytest.mark.parametrize("weight", [0, LIGHTEST - 1, HEAVIEST + 1, 255])
def test_a_row_of_a_weight_that_no_row_has_is_shown(stage, weight):
    honest = publish()
    size = honest.manifest.row_bytes
    written = honest.rows[: 3 * size] + bytes([weight]) + honest.rows[3 * size + 1 :]
    forged = replace(honest, rows=written)
    root = MerkleTree(row_leaves_of(forged)).root
    index = Committed(stage, honest, rows_root=root).committed()
    index.published = forged
    assert index.challenge() == (IndexFraudKind.BAD_ROW, None)


def row_leaves_of(published):
    hashes = enumerate(published.manifest.row_hashes)
    return [keccak256(b"\x00" + digest + published.written(number)) for number, digest in hashes]


@pytest.mark.parametrize("weight", [LIGHTEST, HEAVIEST])
def test_the_lightest_and_the_heaviest_row_are_rows(stage, weight):
    rows = np.where(vectors() > 0, weight, -weight).astype(np.int8)
    index = Committed(stage, publish(rows)).committed()
    assert index.prove(IndexFraudKind.BAD_ROW, index.opened.row(0)) == "NotFraud"
    assert index.prove(IndexFraudKind.BAD_SUM, *index.opened.step(0, 3)) == "NotFraud"


@pytest.mark.parametrize("cut", [-1, 1])
def test_a_row_of_another_length_is_shown(stage, cut):
    honest = Committed(stage)
    row = honest.opened.row(1)
    written = row.written[:cut] if cut < 0 else row.written + bytes(cut)
    leaves = list(honest.trees.row_leaves)
    leaves[1] = keccak256(b"\x00" + row.row_hash + written)
    trees = replace(honest.trees, row_leaves=tuple(leaves))
    index = Committed(stage, honest.published, trees).committed()
    assert index.prove(IndexFraudKind.BAD_ROW, replace(index.opened.row(1), written=written)) is None


def test_a_row_that_is_there_twice_is_shown(stage):
    hashes = tuple(keccak256(bytes([number])) for number in (0, 1, 2, 1, 4))
    index = Committed(stage, publish(hashes=hashes)).committed()
    same = index.opened.running(1)
    assert index.prove(IndexFraudKind.TWICE, same, same) == "NotFraud"
    assert index.challenge() == (IndexFraudKind.TWICE, None)


def test_contributors_that_do_not_ascend_are_shown(stage):
    index = Committed(stage, publish(owners=OWNERS[::-1])).committed()
    assert index.challenge() == (IndexFraudKind.UNSORTED, None)


@pytest.mark.parametrize(("counts", "due"), [((0, 5), None), ((5, 0), None), ((2, 3), "NotFraud")])
def test_a_contributor_without_rows_is_shown(stage, counts, due):
    index = Committed(stage, publish(counts=counts)).committed()
    kind, refused = index.challenge()
    assert (kind, refused) == ((IndexFraudKind.GAP, None) if due is None else (None, None))


def closing_changed(published, contributor, **changes):
    trees = build_index_trees(published)
    closing = list(trees.closing)
    closing[contributor] = replace(closing[contributor], **changes)
    return replace(trees, closing=tuple(closing))


@pytest.mark.parametrize("end", [0, 1, 3, 6])
def test_a_sum_that_closes_at_another_row_is_shown(stage, end):
    published = publish()
    trees = closing_changed(published, 0, end=end)
    index = Committed(stage, published, trees).committed()
    last = (index.opened.running(end - 1),) if 0 < end < 6 else ()
    assert index.prove(IndexFraudKind.BAD_CLOSING, index.opened.closing(0), last) is None


def test_a_sum_of_another_contributor_is_shown(stage):
    published = publish()
    trees = closing_changed(published, 0, account=Address(b"\x09" * 20))
    index = Committed(stage, published, trees).committed()
    last = (index.opened.running(1),)
    assert index.prove(IndexFraudKind.BAD_CLOSING, index.opened.closing(0), last) is None


def test_rows_that_are_in_no_sum_are_shown(stage):
    """The first contributor, then the last, is left out of the sums."""
    published = publish()
    trees = build_index_trees(published)
    for left, before, start in ((1, (), 0), (0, (), None)):
        with stage.undone():
            short = replace(trees, closing=(trees.closing[left],))
            index = Committed(stage, published, short).committed()
            first = () if start is None else (index.opened.running(start),)
            assert index.prove(IndexFraudKind.GAP, before, index.opened.closing(0), first) is None


def test_only_bonded_makers_commit_and_only_to_something(stage):
    index = Committed(stage)
    assert index.commit(LANE.address) == "NotMaker"
    stranger = Committed(stage, maker=LANE.address)
    assert stranger.commit(LANE.address) == "BondTooSmall"
    for shape in ({"row_count": 0, "sum_count": 0}, {"sum_count": 0}, {"sum_count": 6}):
        assert Committed(stage, **shape).commit() == "BadShape", shape
    for width in (0, 12, (1 << 17) + 8):
        assert Committed(stage, width=width).commit() == "BadShape", width
    assert Committed(stage, width=1 << 17).commit() is None
    assert Committed(stage, manifest=bytes(32)).commit() is None
    forged = Committed(stage, changed_sum(0, 0))
    assert forged.challenge() == (IndexFraudKind.BAD_SUM, "UnknownIndex")


def test_who_is_no_attributor_answers_with_its_bond_as_a_contributor(stage):
    author = key_of("author of an index").address
    stage.bond(author, ATTRIBUTOR, 99)
    stage.bond(author, CONTRIBUTOR, BOND)
    index = Committed(stage, changed_sum(0, 0), maker=author)
    assert index.commit(author) is None
    assert index.challenge() == (IndexFraudKind.BAD_SUM, None)
    left = [stage.network.read("Bonds", "standing", checksummed(author), role) for role in (2, 4)]
    assert left == [0, 99]
    assert stage.network.tokens(WATCHER) == BOND // 2


def test_who_is_an_attributor_answers_with_that_bond(stage):
    stage.bond(MAKER, CONTRIBUTOR, BOND)
    index = Committed(stage, changed_sum(0, 0)).committed()
    assert index.challenge() == (IndexFraudKind.BAD_SUM, None)
    left = [stage.network.read("Bonds", "standing", checksummed(MAKER), role) for role in (2, 4)]
    assert left == [BOND, 0]


def test_after_the_window_nothing_is_shown(stage):
    index = Committed(stage, changed_sum(0, 0)).committed()
    stage.network.wait(TERMS.window)
    assert index.challenge() == (IndexFraudKind.BAD_SUM, "WindowClosed")


def test_leaves_must_be_in_their_trees(stage):
    index = Committed(stage).committed()
    opened, kind = index.opened, IndexFraudKind
    row, before, now, place = opened.step(1, 0)
    moved, short = replace(row, index=2), replace(row, path=row.path[:-1])
    for wrong in (moved, short, replace(row, index=5)):
        assert index.prove(kind.BAD_ROW, wrong) == "BadProof"
        assert index.prove(kind.BAD_SUM, wrong, before, now, place) == "BadProof"
    assert index.prove(kind.BAD_SUM, row, (), now, place) == "BadProof"
    assert index.prove(kind.BAD_SUM, row, before, now, WIDTH) == "BadProof"
    assert index.prove(kind.BAD_SUM, row, before, now, CHUNK_PLACES) == "BadProof", "another chunk"
    forged = replace(now, numbers=bytes(len(now.numbers)))
    assert index.prove(kind.BAD_SUM, row, before, forged, place) == "BadProof"
    forged = replace(before[0], numbers=bytes(len(now.numbers)))
    assert index.prove(kind.BAD_SUM, row, (forged,), now, place) == "BadProof"
    assert index.prove(kind.BAD_SUM, row, (opened.chunk(3, 0),), now, place) == "BadProof"
    other = opened.step(2, 0)
    assert index.prove(kind.BAD_SUM, row, before, other[2], place) == "BadProof"
    lie = replace(opened.running(0), running=RunningSum(OWNERS[1], bytes(32), bytes(32)))
    assert index.prove(kind.TWICE, lie, opened.running(1)) == "BadProof"
    assert index.prove(kind.UNSORTED, lie, opened.running(1)) == "BadProof"
    assert index.prove(kind.TWICE, opened.running(1), lie) == "BadProof"
    assert index.prove(kind.UNSORTED, opened.running(1), replace(lie, index=2)) == "BadProof"
    closing = opened.closing(1)
    for wrong in (replace(closing, index=0), replace(closing, closing=replace(closing.closing, end=4))):
        assert index.prove(kind.BAD_CLOSING, wrong, (opened.running(3),)) == "BadProof"
        assert index.prove(kind.GAP, (opened.closing(0),), wrong, (opened.running(2),)) == "BadProof"
    assert index.prove(kind.GAP, (), closing, (opened.running(0),)) == "BadProof"
    assert index.prove(kind.GAP, (closing,), closing, (opened.running(2),)) == "BadProof"
    lie = replace(opened.running(4), running=replace(opened.trees.running[4], sum_root=bytes(32)))
    assert index.prove(kind.BAD_CLOSING, closing, (lie,)) == "BadProof"
    lie = replace(opened.running(2), running=replace(opened.trees.running[2], account=OWNERS[0]))
    assert index.prove(kind.GAP, (opened.closing(0),), closing, (lie,)) == "BadProof"


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 1 << 32),
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    places=st.sampled_from((8, 1_016, 1_024, 1_032)),
    forged=st.tuples(st.integers(0, 2), st.integers(0, 1 << 16), st.sampled_from((0, 1, -1, -4_000))),
)
def test_what_python_adds_up_the_contract_takes_and_nothing_else(whole_stage, seed, counts, places, forged):
    owners = tuple(Address(bytes([number + 1]) * 20) for number in range(len(counts)))
    rows = vectors(seed, sum(counts), places)
    assert (read_rows(publish(rows, owners, counts).rows, places) == rows).all()
    ends = np.cumsum(counts)
    sums = [sum_rows(rows[end - count : end]) for end, count in zip(ends, counts, strict=True)]
    contributor, place, by = forged[0] % len(counts), forged[1] % places, forged[2]
    sums[contributor][place] += by
    published = publish(rows, owners, counts, sums)
    with whole_stage.undone() as stage:
        index = Committed(stage, published).committed()
        assert index.commitment.sums_root == sums_root(published.manifest, published.sums)
        assert committed_trees(index.commitment, published) == index.trees
        number = int(ends[contributor]) - 1
        step = index.opened.step(number, place)
        assert index.prove(IndexFraudKind.BAD_SUM, *step) == (None if by else "NotFraud")
        if not by:
            for honest in range(len(rows)):
                assert index.prove(IndexFraudKind.BAD_SUM, *index.opened.step(honest, place)) == "NotFraud"
            assert index.challenge() == (None, None)
