"""A devchain with a worker and two payers on it, and the worker's store."""

from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count

import pytest

from commonlore.contracts.client.chain import ChainClient
from commonlore.contracts.deploying.deployment import Terms
from commonlore.contracts.deploying.terms import CheckTerms
from commonlore.contracts.embedded.devchain import Devchain, DevchainConfig
from commonlore.contracts.embedded.provider import LocalProvider
from commonlore.peer.aio import open_aio
from commonlore.peer.clock import ManualClock
from commonlore.peer.settling.crediting import Crediting, NetworkAccounts
from commonlore.peer.settling.lane import Settler
from commonlore.peer.settling.redemption import SettleParts
from commonlore.peer.store.ledger_rows import NewReceipt, Role
from commonlore.peer.store.node_store import open_store
from commonlore.protocol.attribution.faithfulness import Correlations, Faithfulness
from commonlore.protocol.content.blob_names import describe_blob
from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.content.manifests import (
    AdapterManifest,
    DatanetManifest,
    PriorWeight,
    Recipe,
    Shard,
    ShardHeader,
)
from commonlore.protocol.content.rows import contributors_root
from commonlore.protocol.content.splits import BASE_SPLIT, DEFAULT_SPLIT
from commonlore.protocol.encoding.codec import encode, record_cid, record_hash
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import NotFound
from commonlore.protocol.ids import Address, cid_of, keccak256
from commonlore.protocol.receipts.credits import compute_shares
from commonlore.protocol.receipts.records import AttributionStatement, Receipt, ReceiptDetails
from commonlore.protocol.receipts.rules import make_voucher, sign_receipt
from commonlore.protocol.requests.records import ChatMessage, Prompt, Sampling
from commonlore.protocol.signing.bindings import bind
from commonlore.protocol.signing.eip712 import digest
from commonlore.protocol.signing.envelope import open_sealed, seal
from commonlore.protocol.signing.keys import AccountKey, PeerKey

GENESIS = 1_800_000_000
CHECKS = CheckTerms(round_length=3_600, beacon_stake=20, odds_ppm=PPM, contest=700, minimum_bond=100)
TERMS = Terms(epoch_length=1_000, window=500, grace=100, checks=CHECKS)
DEPOSIT = 1_000_000
CONTRIBUTORS = tuple(Address(bytes([0xC0 + i]) * 20) for i in range(3))


def shard_of(payee):
    """A contributor's part of the Datanet: nobody here reads its rows."""
    rows = (bytes(32), cid_of(b"rows"))
    header = ShardHeader("icd", "one", bytes(32), payee, "CC0-1.0", "tests", "", 1, *rows)
    return Shard(header, bytes(64), bytes(65))


AUTHOR_KEY = AccountKey.from_secret(keccak256(b"author"))
AUTHOR = AUTHOR_KEY.address
AUTHOR_PEER = PeerKey.generate(keccak256(b"author's peer"))
RAW_SHARDS = tuple(encode(shard_of(payee)) for payee in CONTRIBUTORS)
DATANET = DatanetManifest(
    "icd", "tests", "questions", "CC0-1.0", bytes(32), 1, None, tuple(map(cid_of, RAW_SHARDS)),
    contributors_root(CONTRIBUTORS),
)  # fmt: skip
MANIFEST = AdapterManifest(
    name="icd",
    base=cid_of(b"base"),
    weights=cid_of(b"weights"),
    weights_size=7,
    rank=8,
    alpha=16,
    targets=("q_proj",),
    template=bytes(32),
    datanets=(record_cid(DATANET),),
    recipe=Recipe("test", 1, 1, 1, 8, 16, 0, 1, "fp32", "{question}"),
    early_checkpoint=None,
    factors=None,
    split=DEFAULT_SPLIT,
    priors=tuple(
        PriorWeight(a, ppm) for a, ppm in zip(CONTRIBUTORS, (500_000, 250_000, 250_000), strict=True)
    ),
    licence="CC0-1.0",
    author=AUTHOR_PEER.public,
    author_payee=AUTHOR,
)
ADAPTER = record_cid(MANIFEST)
INDEX = cid_of(b"index")
ABOVE_CHANCE = Correlations(1_900_000, 10_000, 1_100_000, 1_000_000, 10_000)
MEASUREMENT = seal(AUTHOR_PEER, Faithfulness(ADAPTER, INDEX, "gradient", 6, 10, 24, 6, 4, ABOVE_CHANCE))
MEASURED = cid_of(MEASUREMENT)
MANIFESTS = {cid_of(raw): raw for raw in (*RAW_SHARDS, encode(DATANET), encode(MANIFEST))}
DETAILS = ReceiptDetails(bytes(32), bytes(32), Sampling(seed=1, max_tokens=2), "stop")


class Party:
    """An owner with session and peer keys."""

    def __init__(self, chain, name):
        self.owner = AccountKey.from_secret(keccak256(f"owner {name}".encode()))
        self.session = AccountKey.from_secret(keccak256(f"session {name}".encode()))
        self.peer = PeerKey.generate(keccak256(f"peer {name}".encode()))
        keys = (self.owner, self.session, self.peer)
        self.binding = bind(chain.deployment.domain, *keys, GENESIS - 1, GENESIS + 10**8)
        self.client = ChainClient(chain.devchain.provider(), chain.deployment, self.owner.secret)


class Chain:
    """A devchain on which one worker and two payers have money; `down` makes it stop answering."""

    def __init__(self):
        self.now = GENESIS
        self.down = False
        self.devchain = Devchain(DevchainConfig(TERMS, clock=lambda: self.now))
        self.deployment = self.devchain.deployment
        self.worker = Party(self, "worker")
        self.payers = [Party(self, "ada"), Party(self, "bob")]
        for party in (self.worker, *self.payers):
            self.devchain.fund(party.owner.address, DEPOSIT if party in self.payers else 0)
        for payer in self.payers:
            payer.client.deposit(DEPOSIT)

    @property
    def lane(self):
        return self.worker.session.address

    def client(self, secret=None):
        def respond(request):
            if self.down:
                raise ConnectionRefusedError("down")
            return self.devchain.respond(request)

        secret = secret or self.worker.owner.secret
        return ChainClient(LocalProvider(respond), self.deployment, secret, patience_s=0)

    def end_epoch(self, epoch):
        self.now = max(self.now, self.deployment.postable_at(epoch))

    def pass_window(self):
        self.now += TERMS.window


@pytest.fixture(scope="session")
def devchain():
    chain = Chain()
    yield chain
    chain.devchain.close()


@pytest.fixture
def chain(devchain):
    saved = devchain.devchain.rpc.handle("evm_snapshot", [])
    devchain.now, devchain.down = GENESIS + 1, False
    bindings = [(party, party.binding) for party in (devchain.worker, *devchain.payers)]
    yield devchain
    for party, binding in bindings:
        party.binding = binding
    devchain.devchain.rpc.handle("evm_revert", [saved])


class Adapters:
    """The one adapter, and what its author measured of its index; further ones that only this node has."""

    def __init__(self):
        self.known = {ADAPTER: MANIFEST}

    async def adapter(self, cid):
        return self.known[cid]

    async def measurement(self, cid):
        if cid != MEASURED:
            raise NotFound(f"nobody has {cid}")
        return MEASUREMENT


def stated(key, receipt_hash, weights, **changes):
    """A statement by scores that may divide money, sealed."""
    plain = AttributionStatement(receipt_hash, ADAPTER, INDEX, "gradient", bytes(32), weights)
    made = replace(plain, **{"faithfulness": MEASURED} | changes)
    return open_sealed(seal(key, made), (AttributionStatement,))


class Node:
    """A worker's store with paid receipts, and fresh settlers over it."""

    def __init__(self, chain, store):
        self.chain = chain
        self.store = store
        self.published = {}
        self.adapters = Adapters()
        self.tokens = count(1)

    async def publish(self, data):
        cid = describe_blob([data])[0]
        self.published[cid] = data
        return cid

    async def fetch(self, lane, cid):
        assert lane == self.chain.lane
        return self.published[cid] if cid in self.published else await fetch_manifest(cid)

    def receipt(self, payer, seq, price, epoch=0, adapter=True):
        receipt = Receipt(
            request_hash=keccak256(b"request"),
            payer=payer.session.address,
            lane=self.chain.lane,
            seq=seq,
            epoch=epoch,
            step=0,
            artefact=MANIFEST.base,
            adapters=(AdapterWeight(ADAPTER if adapter is True else adapter, PPM),) if adapter else (),
            prompt_tokens=3,
            output_tokens=next(self.tokens),
            output_root=bytes(32),
            price=price,
            shares=compute_shares(price, DEFAULT_SPLIT if adapter else BASE_SPLIT),
            details=record_hash(DETAILS),
        )
        domain = self.chain.deployment.domain
        signed = sign_receipt(domain, self.chain.worker.session, receipt, DETAILS)
        prompt = Prompt(bytes(32), (ChatMessage("user", "which code?"),))
        return NewReceipt(digest(domain, receipt), signed, (7, 8), prompt)

    async def serve(self, payer, price, epoch=0, *, adapter=True, pay=True, bound=True):
        """A receipt, paid by its voucher unless `pay` is false; returns its hash."""
        ledger = self.store.ledger
        key = payer.session.address
        new = self.receipt(
            payer, await ledger.next_seq(Role.WORKER, key, self.chain.lane), price, epoch, adapter
        )
        await ledger.record_receipt(Role.WORKER, new)
        if pay:
            channel = await ledger.channel(Role.WORKER, key, self.chain.lane)
            domain = self.chain.deployment.domain
            voucher = make_voucher(domain, payer.session, new.signed.receipt, channel.voucher)
            await ledger.record_voucher(Role.WORKER, voucher)
        if bound:
            await self.store.records.put_binding(payer.binding)
        return new.receipt_hash

    def parts(self, **changes):
        deployment = self.chain.deployment
        accounts = NetworkAccounts(deployment.platform, deployment.work_pool)
        attributor = self.chain.worker.peer.public
        parts = SettleParts(
            client=self.chain.client(),
            store=self.store,
            crediting=Crediting(accounts, self.store.records, self.adapters, attributor),
            publish=self.publish,
            binding=lambda: self.chain.worker.binding,
            clock=ManualClock(GENESIS * 1000),
            claim_for=None,
            fetch=self.fetch,
        )
        return replace(parts, **changes)

    def settler(self, **changes):
        return Settler(self.parts(**changes))

    async def settle(self, **changes):
        return await self.settler(**changes).settle_once()

    async def settle_all(self, epoch, **changes):
        """From an epoch's end until its receipts are claimed; the last report."""
        self.chain.end_epoch(epoch)
        await self.settle()
        self.chain.end_epoch(epoch + 1)
        await self.settle()
        self.chain.pass_window()
        return await self.settle(**changes)

    def balance(self, account):
        return self.chain.worker.client.balance(account)

    @property
    def lane_state(self):
        return self.chain.worker.client.lane_state(self.chain.lane)


@asynccontextmanager
async def opened(chain, path):
    async with open_aio() as aio, open_store(path, aio) as store:
        yield Node(chain, store)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "store.sqlite3"


def earned_by(chain, *prices):
    """What each account earns from receipts of the adapter at these prices, contributors by priors."""
    deployment, earned = chain.deployment, {}

    def add(account, amount):
        earned[account] = earned.get(account, 0) + amount

    for price in prices:
        shares = compute_shares(price, DEFAULT_SPLIT)
        add(deployment.platform, shares.platform)
        add(deployment.work_pool, shares.work_pool)
        add(chain.worker.owner.address, shares.worker)
        add(AUTHOR, shares.author)
        for prior in MANIFEST.priors:
            add(prior.payee, shares.contributors * prior.ppm // PPM)
    return earned


async def fetch_manifest(cid):
    """What everybody has."""
    if cid not in MANIFESTS:
        raise NotFound(f"nobody has {cid}")
    return MANIFESTS[cid]


class Samples:
    """What tests build with, without importing this file."""

    fetch = staticmethod(fetch_manifest)
    MANIFEST = MANIFEST
    DATANET = DATANET
    AUTHOR_KEY = AUTHOR_KEY
    ADAPTER = ADAPTER
    AUTHOR_PEER = AUTHOR_PEER
    INDEX = INDEX
    MEASURED = MEASURED
    Adapters = Adapters
    stated = staticmethod(stated)
    Party = Party
    opened = staticmethod(opened)
    earned_by = staticmethod(earned_by)


@pytest.fixture(scope="session")
def make():
    return Samples
