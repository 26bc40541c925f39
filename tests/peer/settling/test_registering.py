"""What a peer announces is registered on the chain once, whatever comes in between."""

from dataclasses import replace

import pytest

from commonlore.contracts.calling.records import AdapterRegistration
from commonlore.contracts.client.chain import ChainClient
from commonlore.contracts.client.registering import adapter_record_id, datanet_entry
from commonlore.contracts.embedded.provider import LocalProvider
from commonlore.peer.catalog import Catalog
from commonlore.peer.chain import OFFLINE
from commonlore.peer.serving.registered import RegisteredTerms
from commonlore.peer.settling import beacons, registering
from commonlore.peer.settling.beacons import own_beacon, registered_beacon
from commonlore.peer.settling.registering import Registrar
from commonlore.protocol.content.splits import BASE_SPLIT
from commonlore.protocol.encoding.codec import encode, record_cid
from commonlore.protocol.errors import InvalidAdapter, NotFound, Refused, Unreachable
from commonlore.protocol.gossip.adverts import AdapterRecord, DatanetRecord
from commonlore.protocol.ids import Address, cid_of
from commonlore.protocol.signing.envelope import seal


class Author:
    """A peer with gas that announces Datanets and adapters."""

    def __init__(self, chain, make, name, gas=True):
        self.chain = chain
        self.party = make.Party(chain, name)
        if gas:
            chain.devchain.fund(self.party.owner.address, 0)
        self.client = chain.client(self.party.owner.secret)
        self.blobs, self.seq = {}, 0
        self.catalog = Catalog(self.fetch)

    async def fetch(self, cid, limit):
        if cid not in self.blobs:
            raise NotFound(f"nobody has {cid}")
        return self.blobs[cid]

    def keep(self, manifest):
        self.blobs[record_cid(manifest)] = encode(manifest)
        return record_cid(manifest)

    def announce(self, manifest, name):
        self.seq += 1
        cid, stamp = self.keep(manifest), (self.seq, 1_900_000_000_000)
        if hasattr(manifest, "shards"):
            record = DatanetRecord(name, manifest.version, cid, *stamp)
        else:
            record = AdapterRecord(name, cid, manifest.base, None, None, 0, 0, *stamp)
        assert self.catalog.learn(seal_as(self.party.peer, record))
        return cid

    def registrar(self):
        """As after a start."""
        party = self.party
        return Registrar(self.client, self.catalog, party.peer.public, party.owner)

    def adapter(self, make, datanets, **changes):
        author = self.party.owner.address
        return replace(make.MANIFEST, author_payee=author, datanets=datanets, **changes)


async def test_a_worker_refuses_what_is_registered_otherwise_than_its_manifest(
    chain, make, author, monkeypatch
):
    """It would divide by the manifest, and be judged by the record."""
    monkeypatch.setattr("commonlore.peer.serving.registered.CHAIN_PATIENCE_S", 60)
    registry, owner = author.client.registry, author.party.owner
    epoch = [0]

    async def fetch(cid, limit):
        return await make.fetch(cid)

    def worker(client=author.client):
        return RegisteredTerms(client, fetch, lambda: epoch[0])

    def register(manifest, datanets, **changes):
        made = AdapterRegistration(
            record_cid(manifest), manifest.base, datanets, (), manifest.split, owner.address
        )
        made = replace(made, **changes)
        registry.register_adapter(made, registry.sign_adapter(made, owner))

    registry.register_base(make.MANIFEST.base)
    record = registry.register_datanet("icd", 1, datanet_entry(record_cid(make.DATANET), make.DATANET))
    adapters = [
        author.adapter(make, make.MANIFEST.datanets, name=name) for name in ("good", "split", "none", "late")
    ]
    good, split, none, late = adapters
    register(good, (record,))
    register(split, (record,), split=BASE_SPLIT)
    register(none, ())
    one = worker()
    await one.check(record_cid(good), good)
    for lying, why in ((split, "another split"), (none, "contributed to nothing")):
        with pytest.raises(InvalidAdapter, match=why):
            await one.check(record_cid(lying), lying)
    await one.check(record_cid(late), late, 0)
    for worker_ in (one, worker()):
        with pytest.raises(Refused, match="may be registered until epoch 1"):
            await worker_.check(record_cid(late), late, 1)  # a record of this epoch would bind the answer
    await one.check(record_cid(good), good, 1)
    register(late, ())
    await one.check(record_cid(late), late)  # what is registered in an epoch binds later ones
    epoch[0] += 1
    with pytest.raises(InvalidAdapter):
        await one.check(record_cid(late), late)
    chain.down = True
    await one.check(record_cid(good), good)
    await worker().check(record_cid(none), none)  # nothing is known: answers go on


def seal_as(key, record):
    from commonlore.protocol.signing.envelope import open_sealed

    return open_sealed(seal(key, record, 4096), (type(record),), 4096)


@pytest.fixture
def author(chain, make):
    return Author(chain, make, "author")


def head(chain):
    return chain.client().registrations._log._reader.head().number


async def test_an_adapter_has_one_beacon_the_block_that_registered_it(chain, make, author, monkeypatch):
    datanet = author.announce(replace(make.DATANET, curator=author.party.peer.public), "icd")
    manifest = author.adapter(make, (datanet,))
    author.keep(manifest)
    domain, registrar = author.client.deployment.domain, author.registrar()
    assert await registered_beacon(domain, author.client, manifest) == b""
    found = await own_beacon(domain, author.client, registrar, manifest)
    block = author.client.endpoint.attempt("block", lambda web3: web3.eth.get_block("latest"))
    assert found == bytes(block["hash"])
    chain.devchain.fund(Address(b"\x07" * 20), 5)  # later blocks are nobody's beacon
    assert head(chain) > int(block["number"])
    assert await own_beacon(domain, author.client, registrar, manifest) == found
    assert await registered_beacon(domain, chain.client(), manifest) == found
    assert await registered_beacon(OFFLINE, None, manifest) is None
    assert await own_beacon(OFFLINE, None, None, manifest) is None
    with pytest.raises(NotFound, match="chain_url"):
        await registered_beacon(domain, None, manifest)
    with pytest.raises(NotFound, match="not registered: this peer has no endpoint"):
        await own_beacon(domain, None, None, manifest)
    strange = author.adapter(make, (cid_of(b"nobody has this Datanet"),), name="strange")
    author.keep(strange)
    monkeypatch.setattr(beacons, "PATIENCE_S", 0)
    with pytest.raises(NotFound, match="nobody has"):
        await own_beacon(domain, author.client, registrar, strange)


async def test_everything_announced_is_registered_and_nothing_twice(chain, make, author):
    first = replace(make.DATANET, name="icd", curator=author.party.peer.public)
    empty = replace(first, version=2, previous=author.keep(first), shards=())
    second = replace(first, version=3, previous=author.keep(empty), purpose="more")
    datanet = author.announce(second, "icd")
    one = author.announce(author.adapter(make, (datanet,)), "a/one")
    other = author.announce(author.adapter(make, (record_cid(first),), name="other"), "a/other")
    merged = author.adapter(make, (record_cid(first), datanet), name="merged", parents=(one, other))
    author.announce(merged, "a/merged")
    assert await author.registrar().look() == []
    registry, owner = author.client.registry, author.party.owner.address
    assert registry.base_registrant(make.MANIFEST.base) == owner
    records = author.client.registrations.datanets()
    assert [(each.version, each.entry) for each in records.values()] == [
        (1, datanet_entry(record_cid(first), first)),
        (2, datanet_entry(datanet, second)),
    ]
    whole, *parents = author.client.registrations.ancestry(adapter_record_id(owner, record_cid(merged)))
    assert whole.datanets == tuple(records)
    assert whole.parents == tuple(parent.record_id for parent in parents)
    assert whole.parents == tuple(adapter_record_id(owner, each) for each in (one, other))
    assert registry.adapter(whole.record_id).split == merged.split
    before = head(chain)
    assert await author.registrar().look() == [], "a peer that starts again has nothing to do"
    assert head(chain) == before


async def test_a_chain_that_goes_away_in_between_is_gone_on_with(chain, make, author):
    """Every transaction is mined, and its answer never comes."""
    datanet = author.announce(replace(make.DATANET, curator=author.party.peer.public), "icd")
    adapter = author.announce(author.adapter(make, (datanet,)), "a/one")
    sent = []

    def respond(request):
        if sent and sent[-1] == "lost":
            raise ConnectionRefusedError("down")
        answer = chain.devchain.respond(request)
        if request["method"] == "eth_sendRawTransaction":
            sent.append("lost")
            raise ConnectionResetError("away")
        return answer

    secret = author.party.owner.secret
    author.client = ChainClient(LocalProvider(respond), chain.deployment, secret, patience_s=0)
    before = head(chain)
    for number in range(1, 4):  # Datanet, base, adapter
        with pytest.raises(Unreachable):
            await author.registrar().look()
        assert head(chain) == before + number
        sent[-1] = "known"
    assert await author.registrar().look() == []
    assert head(chain) == before + 3, "all was done when the chain came back"
    record = adapter_record_id(author.party.owner.address, adapter)
    assert author.client.registry.adapter(record) is not None


async def test_what_cannot_be_registered_yet_waits_and_says_why(chain, make, author, monkeypatch):
    poor = Author(chain, make, "curator", gas=False)
    foreign = replace(make.DATANET, name="foreign", curator=poor.party.peer.public)
    poor.announce(foreign, "foreign")
    author.announce(author.adapter(make, (author.keep(foreign),)), "a/one")
    author.announce(author.adapter(make, (cid_of(b"gone"),), name="two"), "a/two")
    (reason,) = await poor.registrar().look()
    assert "foreign" in reason
    assert "gas" in reason
    registrar = author.registrar()
    yet, gone = await registrar.look()
    assert yet == "a/one: its Datanet 'foreign' is not registered yet"
    assert gone.startswith("a/two: nobody has")
    monkeypatch.setattr(registering, "CURATOR_PATIENCE_S", 0)
    assert [reason[:5] for reason in await registrar.look()] == ["a/two"]
    (known,) = author.client.registrations.datanets().values()
    assert known.owner == author.party.owner.address
    assert known.entry == datanet_entry(record_cid(foreign), foreign)


async def test_a_copy_from_the_mempool_changes_nothing(chain, make, author):
    """Whoever registers the same hashes first has records of their own."""
    thief = Author(chain, make, "thief")
    datanet = replace(make.DATANET, curator=author.party.peer.public)
    adapter = author.adapter(make, (record_cid(datanet),))
    stolen = replace(datanet, contributors_root=bytes([7]) * 32)
    thief.client.registry.register_base(adapter.base)
    thief.client.registry.register_datanet("icd", 1, datanet_entry(record_cid(datanet), stolen))
    author.announce(datanet, "icd")
    cid = author.announce(adapter, "a/one")
    assert await author.registrar().look() == []
    owner = author.party.owner.address
    (entry,) = author.client.registrations.ancestry(adapter_record_id(owner, cid))
    registered = author.client.registrations.datanets()[entry.datanets[0]]
    assert (registered.owner, registered.entry.contributors_root) == (owner, datanet.contributors_root)
    assert author.client.registry.adapter(adapter_record_id(Address(b"\x01" * 20), cid)) is None
