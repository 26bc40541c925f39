"""Indexes on a real embedded chain: authors with a bond commit to theirs, watchers add up what was published
and prove what is wrong, and nobody goes by what was shown wrong."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import trio

from commonlore.contracts.calling.records import AdapterRegistration, DatanetEntry
from commonlore.contracts.client.bonding import BondRole
from commonlore.peer.attribution.index_committed import published_index, require_committed
from commonlore.peer.chain import OFFLINE
from commonlore.peer.settling.committed_indexes import commit_own, is_barred, standing_of
from commonlore.peer.watchtower.demands import WatchReport
from commonlore.peer.watchtower.index_watch import IndexWatch
from commonlore.protocol.attribution.index_frauds import IndexFraudKind
from commonlore.protocol.attribution.index_trees import PublishedIndex, build_index_trees
from commonlore.protocol.attribution.scoring import sum_rows, write_sums
from commonlore.protocol.attribution.written_rows import write_row
from commonlore.protocol.content.blob_names import describe_blob
from commonlore.protocol.content.manifests import IndexedContributor, IndexManifest
from commonlore.protocol.encoding.merkle import MerkleTree
from commonlore.protocol.errors import NotFound, RemoteProtocolError
from commonlore.protocol.ids import digest_of, keccak256
from commonlore.protocol.signing.envelope import seal

BOND, WIDTH, SIZE = 10_000, 1_032, 1 << 24
COUNTS = (2, 1, 2)


class Folder:
    """What is published, as files; `missing` are had by nobody."""

    def __init__(self, path):
        self.path_, self.missing = path, set()

    def put(self, data):
        cid = describe_blob([data])[0]
        (self.path_ / cid).write_bytes(data)
        return cid

    async def path(self, cid, max_size):
        if cid in self.missing or not (self.path_ / cid).exists():
            raise NotFound(f"nobody has {cid}")
        return self.path_ / cid

    async def get(self, cid, max_bytes):
        return (await self.path(cid, max_bytes)).read_bytes()


@pytest.fixture
def content(tmp_path):
    return Folder(tmp_path)


@pytest.fixture
def author(chain, make):
    """The worker, with a bond as an attributor."""
    chain.devchain.fund(chain.worker.owner.address, BOND)
    chain.worker.client.bonds.bond(BondRole.ATTRIBUTOR, BOND)
    register(chain.worker, make)
    return chain.worker


def register(party, make):
    """The adapter as this party's own."""
    registry, manifest, datanet = party.client.registry, make.MANIFEST, make.DATANET
    registry.register_base(manifest.base)
    entry = DatanetEntry(digest_of(manifest.datanets[0]), datanet.contributors_root, bytes(32))
    record = registry.register_datanet(f"{datanet.name} of {party.owner.address.hex()}", 1, entry)
    account = party.owner.address
    made = AdapterRegistration(make.ADAPTER, manifest.base, (record,), (), manifest.split, account)
    registry.register_adapter(made, registry.sign_adapter(made, party.owner))


@pytest.fixture
def watcher(chain, make):
    party = make.Party(chain, "watcher")
    chain.devchain.fund(party.owner.address, 0)
    return party


def publish(content, make, author, forged=0):
    """A sealed index and what it names; `forged` is added to a place of the last contributor's sum."""
    random = np.random.default_rng(7)
    rows = (20 * random.choice((-1, 1), (sum(COUNTS), WIDTH))).astype(np.int8)
    ends = np.cumsum(COUNTS)
    sums = [sum_rows(rows[end - count : end]) for end, count in zip(ends, COUNTS, strict=True)]
    sums[-1][1_030] += forged
    blob, sums = b"".join(map(write_row, rows)), write_sums(sums)
    hashes = tuple(keccak256(bytes([number])) for number in range(len(rows)))
    leaves = (keccak256(b"\x00" + digest + write_row(row)) for digest, row in zip(hashes, rows, strict=True))
    owners = sorted(prior.payee for prior in make.MANIFEST.priors)
    index = IndexManifest(
        make.ADAPTER, "test", WIDTH, bytes(32), len(rows), content.put(blob), MerkleTree(leaves).root, hashes,
        tuple(map(IndexedContributor, owners, COUNTS)), content.put(sums),
    )  # fmt: skip
    return content.put(seal(author.peer, index, SIZE)), PublishedIndex(index, blob, sums)


async def look(chain, watcher, content):
    report = WatchReport(watcher.client.chain_time())
    await IndexWatch(watcher.client, partial(published_index, content)).look(report)
    return report


async def standing(chain, make, author, cid):
    manifest = replace(make.MANIFEST, author_payee=author.owner.address)
    return await standing_of(chain.deployment.domain, author.client, manifest, cid)


async def test_a_forged_sum_is_proved_and_its_author_slashed(chain, make, author, watcher, content):
    cid, published = publish(content, make, author, forged=1)
    assert await commit_own(author.client, cid, published)
    watch, report = IndexWatch(watcher.client, partial(published_index, content)), WatchReport(chain.now)
    await watch.look(report)
    (act,) = report.index_acts
    assert (act.what, act.maker, report.indexes) == (IndexFraudKind.BAD_SUM, author.owner.address, 1)
    assert (report.waiting, report.doubts) == ([], [])
    assert author.client.bonds.standing(author.owner.address, BondRole.ATTRIBUTOR) == 0
    assert chain.client().balance(watcher.owner.address) == BOND // 2
    again = WatchReport(chain.now)
    await watch.look(again)
    assert (again.indexes, again.index_acts) == (0, [])
    found = await standing(chain, make, author, cid)
    assert found.killed == "sum does not follow"
    with pytest.raises(RemoteProtocolError, match="shown wrong on the chain"):
        found.require()
    chain.pass_window()
    manifest = replace(make.MANIFEST, author_payee=author.owner.address)
    assert await is_barred(chain.deployment.domain, author.client, manifest, cid)
    assert not await commit_own(author.client, cid, published), "nothing is left to answer for it"


async def test_a_true_index_is_left_alone_and_committed_once(chain, make, author, watcher, content):
    cid, published = publish(content, make, author)
    assert await standing(chain, make, author, cid) is None
    assert await commit_own(author.client, cid, published)
    assert await commit_own(author.client, cid, published), "the same order once more"
    report = await look(chain, watcher, content)
    assert (report.indexes, report.index_acts, report.waiting, report.doubts) == (1, [], [], [])
    found = await standing(chain, make, author, cid)
    assert (found.killed, found.seconds_left > 0) == ("", True)
    manifest = replace(make.MANIFEST, author_payee=author.owner.address)
    place = (chain.deployment.domain, author.client, manifest, cid)
    assert await is_barred(*place), "it earns when nobody can challenge it any more"
    await require_committed(content, published.manifest, found)
    chain.pass_window()
    assert (await standing(chain, make, author, cid)).seconds_left == 0
    assert not await is_barred(*place)
    assert (await look(chain, watcher, content)).indexes == 0, "its window has passed"
    assert len(author.client.indexes.all()) == 1


async def test_what_its_author_committed_first_counts(chain, make, author, watcher, content):
    """A second commitment to the same index holds up no pay, and makes no receipt of before look wrong."""
    cid, published = publish(content, make, author)
    await commit_own(author.client, cid, published)
    chain.pass_window()
    made = build_index_trees(published).commitment(author.owner.address, cid, published.manifest)
    author.client.indexes.commit(replace(made, running_root=bytes(32)))
    manifest = replace(make.MANIFEST, author_payee=author.owner.address)
    assert not await is_barred(chain.deployment.domain, author.client, manifest, cid)
    found = await standing(chain, make, author, cid)
    assert (found.commitment, found.killed, found.seconds_left) == (made, "", 0)


async def test_without_a_bond_or_a_chain_nothing_is_committed(chain, make, content):
    author = chain.worker
    cid, published = publish(content, make, author)
    assert not await commit_own(author.client, cid, published)
    assert not await commit_own(None, cid, published)
    assert await standing(chain, make, author, cid) is None
    assert await standing_of(OFFLINE, None, make.MANIFEST, cid) is None
    with pytest.raises(NotFound, match="chain_url"):
        await standing_of(chain.deployment.domain, None, make.MANIFEST, cid)


async def test_a_chain_that_refuses_keeps_no_index_from_being_published(chain, make, author, content, caplog):
    cid, published = publish(content, make, author)
    chain.down = True
    assert not await commit_own(chain.client(), cid, published)
    assert "is not committed" in caplog.text


async def test_what_cannot_be_had_is_looked_for_again(chain, make, author, watcher, content):
    cid, published = publish(content, make, author, forged=-3)
    await commit_own(author.client, cid, published)
    watch = IndexWatch(watcher.client, partial(published_index, content))
    for missing in (published.manifest.rows, cid):
        content.missing = {missing}
        report = WatchReport(chain.now)
        await watch.look(report)
        assert (report.indexes, report.index_acts, len(report.waiting)) == (0, [], 1)
    content.missing = set()
    report = WatchReport(chain.now)
    await watch.look(report)
    assert [act.what for act in report.index_acts] == [IndexFraudKind.BAD_SUM]


async def test_what_was_published_and_is_not_what_was_committed_is_told(
    chain, make, author, watcher, content
):
    """Nobody but its author has the leaves: nothing can be shown, and nobody scores by it."""
    cid, published = publish(content, make, author)
    made = build_index_trees(published).commitment(author.owner.address, cid, published.manifest)
    author.client.indexes.commit(replace(made, sums_root=bytes(32), running_root=bytes(32)))
    report = await look(chain, watcher, content)
    assert (report.index_acts, report.waiting) == ([], [])
    (doubt,) = report.doubts
    assert "not those that were committed" in doubt
    found = await standing(chain, make, author, cid)
    with pytest.raises(RemoteProtocolError, match="not what its author committed"):
        await require_committed(content, published.manifest, found)


async def test_another_account_kills_only_what_it_committed_itself(chain, make, author, watcher, content):
    """Somebody commits wrong sums in the name of another's index: it is nobody's, until he registers the
    adapter as his own, and then it is only his."""
    cid, published = publish(content, make, author)
    await commit_own(author.client, cid, published)
    ada = chain.payers[0]
    chain.devchain.fund(ada.owner.address, BOND)
    ada.client.bonds.bond(BondRole.ATTRIBUTOR, BOND)
    forged = replace(published, sums=published.sums[:-4] + b"\x01\x00\x00\x00")
    made = build_index_trees(forged).commitment(ada.owner.address, cid, published.manifest)
    ada.client.indexes.commit(made)
    report = await look(chain, watcher, content)
    assert (report.indexes, report.doubts) == (1, [])
    register(ada, make)
    report = await look(chain, watcher, content)
    assert (report.indexes, len(report.doubts)) == (2, 1)
    assert (await standing(chain, make, author, cid)).killed == ""


async def test_what_comes_too_slowly_holds_up_no_other(chain, make, author, watcher, content, monkeypatch):
    monkeypatch.setattr("commonlore.peer.watchtower.index_watch.READ_PATIENCE_S", 0.01)
    slow, forged = publish(content, make, author), publish(content, make, author, forged=1)
    for one in (slow, forged):
        assert await commit_own(author.client, *one)
    named = {digest_of(slow[0])}

    async def read(commitment):
        if commitment.manifest in named:
            await trio.sleep_forever()
        with trio.CancelScope(shield=True):  # however slow this machine is
            return await published_index(content, commitment)

    watch, report = IndexWatch(watcher.client, read), WatchReport(chain.now)
    await watch.look(report)
    assert [act.what for act in report.index_acts] == [IndexFraudKind.BAD_SUM]
    (waiting,) = report.waiting
    assert "did not come within" in waiting
    named.clear()
    report = WatchReport(chain.now)
    await watch.look(report)
    assert (report.indexes, report.waiting) == (1, [])


async def test_a_watcher_without_gas_sends_the_proof_when_it_has_some(chain, make, author, content):
    cid, published = publish(content, make, author, forged=1)
    await commit_own(author.client, cid, published)
    poor = make.Party(chain, "poor")
    watch = IndexWatch(poor.client, partial(published_index, content))
    report = WatchReport(chain.now)
    await watch.look(report)
    assert (report.indexes, report.index_acts, len(report.waiting)) == (0, [], 1)
    chain.devchain.fund(poor.owner.address, 0)
    report = WatchReport(chain.now)
    await watch.look(report)
    assert [act.what for act in report.index_acts] == [IndexFraudKind.BAD_SUM]
