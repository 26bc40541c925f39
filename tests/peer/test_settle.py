"""Settlement on a real embedded chain: exact to the unit, and right again after a crash anywhere."""

import json
import shutil
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from types import SimpleNamespace

import pytest
import trio

from commonlore.contracts.client import ChainClient
from commonlore.contracts.deployment import Terms
from commonlore.contracts.devchain import Devchain, DevchainConfig
from commonlore.contracts.provider import LocalProvider
from commonlore.peer.aio import open_aio
from commonlore.peer.claiming import Claimer, latest_final, prove
from commonlore.peer.clock import ManualClock
from commonlore.peer.crediting import Crediting, NetworkAccounts
from commonlore.peer.epochs import EpochState
from commonlore.peer.ledger_rows import NewReceipt, Role
from commonlore.peer.redemption import SettleParts
from commonlore.peer.settle import Settler
from commonlore.peer.store import open_store
from commonlore.protocol.bindings import bind
from commonlore.protocol.blob_names import describe_blob
from commonlore.protocol.codec import record_cid, record_hash
from commonlore.protocol.credits import BASE_SPLIT, DEFAULT_SPLIT, compute_shares
from commonlore.protocol.eip712 import digest
from commonlore.protocol.envelope import open_sealed, seal
from commonlore.protocol.errors import ChainError, NotFound, RemoteProtocolError, Unreachable
from commonlore.protocol.ids import Address, cid_of, digest_of, keccak256
from commonlore.protocol.keys import AccountKey, PeerKey
from commonlore.protocol.manifests import AdapterManifest, PriorWeight, Recipe
from commonlore.protocol.receipt_rules import make_voucher, sign_receipt
from commonlore.protocol.receipts import AttributionStatement, Receipt, ReceiptDetails, Weight
from commonlore.protocol.requests import PPM, AdapterWeight, Sampling

GENESIS = 1_800_000_000
TERMS = Terms(epoch_length=1_000, window=500, grace=100)
DEPOSIT = 1_000_000
CONTRIBUTORS = tuple(Address(bytes([0xC0 + i]) * 20) for i in range(3))
AUTHOR = Address(b"\xaa" * 20)
MANIFEST = AdapterManifest(
    name="icd",
    base=cid_of(b"base"),
    weights=cid_of(b"weights"),
    weights_size=7,
    rank=8,
    alpha=16,
    targets=("q_proj",),
    template=bytes(32),
    datanets=(cid_of(b"datanet"),),
    recipe=Recipe("test", 1, 1, 1, 8, 16, 0, 1, "fp32", "{question}"),
    early_checkpoint=None,
    factors=None,
    split=DEFAULT_SPLIT,
    priors=tuple(
        PriorWeight(a, ppm) for a, ppm in zip(CONTRIBUTORS, (500_000, 250_000, 250_000), strict=True)
    ),
    licence="CC0-1.0",
    author=bytes(32),
    author_payee=AUTHOR,
)
ADAPTER = record_cid(MANIFEST)
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


@pytest.fixture(scope="module")
def devchain():
    chain = Chain()
    yield chain
    chain.devchain.close()


@pytest.fixture
def chain(devchain):
    saved = devchain.devchain.rpc.handle("evm_snapshot", [])
    devchain.now, devchain.down = GENESIS + 1, False
    yield devchain
    devchain.devchain.rpc.handle("evm_revert", [saved])


class Node:
    """A worker's store with paid receipts, and fresh settlers over it."""

    def __init__(self, chain, store):
        self.chain = chain
        self.store = store
        self.published = {}
        self.tokens = count(1)

    async def publish(self, data):
        cid = describe_blob([data])[0]
        self.published[cid] = data
        return cid

    async def fetch(self, lane, cid):
        assert lane == self.chain.lane
        if cid not in self.published:
            raise NotFound(f"nobody has {cid}")
        return self.published[cid]

    async def manifest(self, cid):
        assert cid == ADAPTER
        return MANIFEST

    def receipt(self, payer, seq, price, epoch=0, adapter=True):
        receipt = Receipt(
            request_hash=keccak256(b"request"),
            payer=payer.session.address,
            lane=self.chain.lane,
            seq=seq,
            epoch=epoch,
            step=0,
            artefact=MANIFEST.base,
            adapters=(AdapterWeight(ADAPTER, PPM),) if adapter else (),
            prompt_tokens=3,
            output_tokens=next(self.tokens),
            output_root=bytes(32),
            price=price,
            shares=compute_shares(price, DEFAULT_SPLIT if adapter else BASE_SPLIT),
            details=record_hash(DETAILS),
        )
        domain = self.chain.deployment.domain
        signed = sign_receipt(domain, self.chain.worker.session, receipt, DETAILS)
        return NewReceipt(digest(domain, receipt), signed)

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
            crediting=Crediting(accounts, self.store.records, self.manifest, attributor),
            publish=self.publish,
            binding=self.chain.worker.binding,
            clock=ManualClock(GENESIS * 1000),
            claim_for=None,
        )
        return replace(parts, **changes)

    def settler(self, **changes):
        return Settler(self.parts(**changes))

    async def settle(self, **changes):
        return await self.settler(**changes).settle_once()

    async def settle_all(self, epoch):
        """From an epoch's end until its receipts are claimed; the last report."""
        self.chain.end_epoch(epoch)
        await self.settle()
        self.chain.end_epoch(epoch + 1)
        await self.settle()
        self.chain.pass_window()
        return await self.settle()

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


# ---- the whole way


async def test_from_vouchers_to_claims(chain, path):
    ada, bob = chain.payers
    prices = (600_000, 60_000, 300_000, 6_000)
    async with opened(chain, path) as node:
        for payer, price in zip((ada, ada, bob, bob), prices, strict=True):
            await node.serve(payer, price)
        await node.serve(ada, 999, pay=False)
        report = await node.settle()
        assert report.is_idle
        assert not report.waiting
        chain.end_epoch(0)
        report = await node.settle()
        assert report.redeemed == sum(prices)
        assert [(c.epoch, c.receipt_count, c.receipt_sum, c.cumulative_total) for c in report.posted] == [
            (0, 4, sum(prices), 0)
        ]
        assert (await node.settle()).is_idle
        chain.end_epoch(1)
        report = await node.settle()
        assert [(c.epoch, c.receipt_count, c.cumulative_total) for c in report.posted] == [
            (1, 0, sum(prices))
        ]
        assert not report.claimed
        chain.pass_window()
        report = await node.settle()
        expected = earned_by(chain, *prices)
        assert {p.account: p.amount for p in report.claimed} == expected
        assert sum(expected.values()) == sum(prices)
        for account, amount in expected.items():
            assert node.balance(account) == amount
        state = node.lane_state
        assert state.pot == state.committed == state.claimed == sum(prices)
        assert node.balance(chain.deployment.settlement) == 0
        chain.end_epoch(5)
        assert (await node.settle()).is_idle
        steps = [(e.step.value, e.is_done) for e in await node.store.epochs.journal()]
        assert all(done for _, done in steps)
        assert [step for step, _ in steps].count("post") == 2


async def test_epochs_go_on(chain, path):
    ada, bob = chain.payers
    async with opened(chain, path) as node:
        await node.serve(ada, 1_000, 0)
        await node.settle_all(0)
        await node.serve(ada, 2_000, 3, adapter=False)
        await node.serve(bob, 777, 4)
        report = await node.settle_all(4)
        total = 1_000 + 2_000 + 777
        assert sum(p.amount for p in report.claimed) == 2_777
        state = node.lane_state
        assert state.pot == state.committed == state.claimed == total
        stored = await node.store.epochs.all(chain.lane)
        assert [(e.epoch, e.state) for e in stored] == [(e, EpochState.FINAL) for e in (0, 1, 4, 5)]
        posted = chain.client().commitments(chain.lane)
        assert [p.commitment for p in posted] == [e.commitment for e in stored]


async def test_a_receipt_of_a_later_epoch_keeps_what_comes_after_it_waiting(chain, path):
    ada, bob = chain.payers
    async with opened(chain, path) as node:
        for price, epoch in ((100, 0), (200, 1), (400, 0)):
            await node.serve(ada, price, epoch)
        await node.serve(bob, 800, 0)
        chain.end_epoch(0)
        report = await node.settle()
        assert [(c.epoch, c.receipt_sum) for c in report.posted] == [(0, 900)]
        chain.end_epoch(1)
        report = await node.settle()
        assert [(c.epoch, c.receipt_sum) for c in report.posted] == [(1, 600)]
        assert [r.receipt.price for r in await node.store.ledger.committed(chain.lane, 1)] == [200, 400]


async def test_statements_of_the_lanes_own_peer_divide_the_contributors_share(chain, path):
    ada, _ = chain.payers
    async with opened(chain, path) as node:
        paid = await node.serve(ada, 10_000)
        stranger = PeerKey.generate(bytes(32))

        async def state(key, *weights):
            statement = AttributionStatement(paid, ADAPTER, None, "gradient", bytes(32), weights)
            sealed = open_sealed(seal(key, statement), (AttributionStatement,))
            await node.store.records.put_statement(sealed)

        await state(stranger, Weight(CONTRIBUTORS[2], PPM))
        await state(chain.worker.peer, Weight(CONTRIBUTORS[0], 900_000), Weight(CONTRIBUTORS[1], 100_000))
        report = await node.settle_all(0)
        claimed = {p.account: p.amount for p in report.claimed}
        assert [claimed.get(account) for account in CONTRIBUTORS] == [3_600, 400, None]


async def test_statements_that_pay_strangers_or_do_not_add_up_fall_back_to_the_priors(chain, path):
    async with opened(chain, path) as node:
        crediting = node.parts().crediting
        for number, weights in enumerate(
            ((Weight(AUTHOR, PPM),), (Weight(CONTRIBUTORS[0], 1),), (Weight(CONTRIBUTORS[0], PPM),))
        ):
            statement = AttributionStatement(bytes([number]) * 32, ADAPTER, None, "g", bytes(32), weights)
            sealed = open_sealed(seal(chain.worker.peer, statement), (AttributionStatement,))
            await node.store.records.put_statement(sealed)
        found = [await crediting.weights_of(MANIFEST, ADAPTER, bytes([n]) * 32) for n in range(3)]
        priors = tuple(Weight(p.payee, p.ppm) for p in MANIFEST.priors)
        assert found == [priors, priors, (Weight(CONTRIBUTORS[0], PPM),)]


# ---- what cannot be settled now


async def test_an_empty_escrow_pays_the_highest_covered_voucher_and_the_rest_later(chain, path):
    ada, bob = chain.payers
    async with opened(chain, path) as node:
        for _ in range(6):
            await node.serve(ada, 300_000)
        await node.serve(bob, 5_000)
        chain.end_epoch(0)
        report = await node.settle()
        assert report.redeemed == 905_000
        assert [c.receipt_sum for c in report.posted] == [905_000]
        assert [w.payer for w in report.waiting] == [ada.session.address]
        assert "800000 units too little" in report.waiting[0].reason
        chain.end_epoch(1)
        await node.settle()
        chain.devchain.fund(ada.owner.address, 10**6)
        ada.client.deposit(10**6)
        chain.end_epoch(2)
        report = await node.settle()
        assert [c.receipt_sum for c in report.posted] == [900_000]
        assert not report.waiting
        await node.settle_all(3)
        assert node.lane_state.claimed == 1_805_000


async def test_two_channels_of_one_balance(chain, path):
    """Both channels' highest vouchers seem covered; together they are not."""
    ada, _ = chain.payers
    second = Party(chain, "ada")
    second.session = AccountKey.from_secret(keccak256(b"another session"))
    second.binding = bind(
        chain.deployment.domain, ada.owner, second.session, ada.peer, GENESIS - 1, GENESIS + 10**8
    )
    async with opened(chain, path) as node:
        for payer in (ada, second):
            for _ in range(2):
                await node.serve(payer, 300_000)
        chain.end_epoch(0)
        report = await node.settle()
        assert report.redeemed == 900_000
        assert len(report.waiting) <= 1
        await node.settle_all(1)
        assert node.lane_state.claimed == 900_000


async def test_a_payer_nobody_can_bind_keeps_no_other_waiting(chain, path):
    ada, bob = chain.payers
    async with opened(chain, path) as node:
        await node.serve(ada, 100, bound=False)
        await node.serve(bob, 200)
        chain.end_epoch(0)
        report = await node.settle()
        assert report.redeemed == 200
        assert "bound to no owner" in report.waiting[0].reason
        await node.store.records.put_binding(ada.binding)
        chain.end_epoch(1)
        assert (await node.settle()).redeemed == 100


async def test_receipts_whose_credits_are_unknown_wait(chain, path):
    ada, bob = chain.payers
    async with opened(chain, path) as node:
        await node.serve(ada, 50, adapter=False)
        await node.serve(ada, 100)
        await node.serve(ada, 10, adapter=False)
        await node.serve(bob, 200, adapter=False)

        async def unknown(cid):
            raise NotFound(f"nobody has {cid}")

        crediting = Crediting(NetworkAccounts(AUTHOR, AUTHOR), node.store.records, unknown, bytes(32))
        chain.end_epoch(0)
        report = await node.settle(crediting=crediting)
        assert report.redeemed == 250
        assert "nobody has" in report.waiting[0].reason
        chain.end_epoch(1)
        assert (await node.settle()).redeemed == 110


async def test_another_posters_epoch_is_noticed(chain, path):
    async with opened(chain, path) as node:
        await node.serve(chain.payers[0], 100)
        chain.end_epoch(0)
        before = path.with_name("before.sqlite3")
        await node.settle()
    async with opened(chain, before) as lost:
        chain.end_epoch(1)
        with pytest.raises(ChainError, match="restore this home's latest store"):
            await lost.settle()


async def test_another_chain_is_noticed(chain, path):
    saved = chain.devchain.rpc.handle("evm_snapshot", [])
    async with opened(chain, path) as node:
        await node.serve(chain.payers[0], 100)
        chain.end_epoch(0)
        await node.settle()
        chain.devchain.rpc.handle("evm_revert", [saved])
        with pytest.raises(ChainError, match="is it another chain"):
            await node.settle()


async def test_money_that_no_receipt_explains_stops_the_posting(chain, path):
    ada, _ = chain.payers
    async with opened(chain, path) as node:
        await node.serve(ada, 100)
        await node.serve(ada, 200)
        newest = (await node.store.ledger.channel(Role.WORKER, ada.session.address, chain.lane)).voucher
    fresh = path.with_name("fresh.sqlite3")
    async with opened(chain, fresh) as node:
        await node.serve(ada, 100)
        for binding in (ada.binding, chain.worker.binding):
            chain.worker.client.bind(binding)
        chain.worker.client.redeem([newest])
        chain.end_epoch(0)
        with pytest.raises(ChainError, match="grew by 300 units; the receipts here explain 100"):
            await node.settle()
        assert not chain.client().commitments(chain.lane)


# ---- the chain goes away


async def test_without_the_chain_nothing_is_lost(chain, path):
    async with opened(chain, path) as node:
        await node.serve(chain.payers[0], 100)
        chain.end_epoch(0)
        chain.down = True
        with pytest.raises(Unreachable):
            await node.settle()
        await node.serve(chain.payers[0], 50)
        chain.down = False
        assert (await node.settle()).redeemed == 150


async def test_the_loop_waits_says_why_and_goes_on(chain, path, caplog, until):
    async with opened(chain, path) as node:
        await node.serve(chain.payers[0], 100)
        chain.end_epoch(0)
        chain.down = True
        settler = node.settler()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(settler.run, 3600.0)
            await until(lambda: settler.status.failures > 0)
            assert "does not answer" in settler.status.waiting_for
            chain.down = False
            settler.wake()
            await until(lambda: settler.status.failures == 0)
            assert settler.status.waiting_for == ""
            assert settler.status.last_round_ms == GENESIS * 1000
            nursery.cancel_scope.cancel()
        assert node.lane_state.committed == 100
    assert "settlement waits" in caplog.text


# ---- crashes


class Crash(Exception):
    """The machine stops here."""


class Crashing:
    """Counts what leaves a mark outside the settler, and stops it before the one that is due."""

    def __init__(self, due):
        self.due = due
        self.passed = []

    def step(self, name):
        if len(self.passed) == self.due:
            self.due = -1
            raise Crash(name)
        self.passed.append(name)

    def watch(self, target, names, is_async):
        """`target` with these methods counted."""
        return Watched(self, target, names, is_async)


class Watched:
    def __init__(self, crashing, target, names, is_async):
        self._crashing, self._target, self._names, self._is_async = crashing, target, names, is_async

    def __getattr__(self, name):
        method = getattr(self._target, name)
        if name not in self._names:
            return method
        if self._is_async:

            async def call(*args):
                self._crashing.step(name)
                return await method(*args)

            return call

        def call_in_thread(*args):
            self._crashing.step(name)
            return method(*args)

        return call_in_thread


MARKS = ("prepare", "withdraw", "mark_posted", "mark_final", "intend", "done")
SENDS = ("redeem", "post_epoch", "claim")


NEVER = 1_000
PHASES = {
    "redeem and post": lambda chain: chain.end_epoch(0),
    "post what was earned": lambda chain: chain.end_epoch(1),
    "claim": lambda chain: chain.pass_window(),
}


POST = ["prepare", "publish", "intend", "post_epoch", "mark_posted", "done"]
STEPS = {
    "redeem and post": ["intend", "redeem", "done", *POST],
    "post what was earned": [*POST, "mark_final"],
    "claim": ["mark_final", "intend", "claim", "done"],
}


async def settle_with_crash(node, crashing):
    """Settle what is due, beginning anew after the crash."""
    while True:
        store = SimpleNamespace(
            epochs=crashing.watch(node.store.epochs, MARKS, True),
            ledger=node.store.ledger,
            records=node.store.records,
        )
        client = crashing.watch(node.chain.client(), SENDS, False)
        publish = crashing.watch(node, ("publish",), True).publish
        try:
            await node.settle(store=store, client=client, publish=publish)
            return
        except Crash:
            continue


async def everything(node):
    """All that a settled lane is, on the chain and in the store."""
    chain, client = node.chain, node.chain.client()
    accounts = [*earned_by(chain, 0), *(payer.owner.address for payer in chain.payers)]
    return {
        "lane": client.lane_state(chain.lane),
        "posted": [p.commitment for p in client.commitments(chain.lane)],
        "tokens": [client.balance(account) for account in accounts],
        "escrow": [client.owner_balance(payer.owner.address) for payer in chain.payers],
        "epochs": [(e.commitment, e.state, e.data) for e in await node.store.epochs.all(chain.lane)],
        "earnings": await node.store.epochs.earnings(chain.lane),
        "receipts": [(r.receipt_hash, r.commitment, r.credits) for r in await node.store.ledger.receipts()],
        "published": [digest_of(cid) for cid in node.published],
    }


async def run_phase(chain, path, phase, crash_before):
    """A phase on a copy of the store at `path`, with a crash: its steps, what came of it, and the copy."""
    PHASES[phase](chain)
    copy = path.with_name(f"{phase} {crash_before}.sqlite3")
    shutil.copy(path, copy)
    crashing = Crashing(crash_before)
    async with opened(chain, copy) as node:
        await settle_with_crash(node, crashing)
        return crashing.passed, await everything(node), copy


async def run_phase_and_go_back(chain, path, phase, crash_before):
    saved, now = chain.devchain.rpc.handle("evm_snapshot", []), chain.now
    steps, outcome, _ = await run_phase(chain, path, phase, crash_before)
    chain.devchain.rpc.handle("evm_revert", [saved])
    chain.now = now
    return steps, outcome


@pytest.mark.parametrize("number", range(len(PHASES)), ids=list(PHASES))
async def test_a_crash_anywhere_changes_nothing(chain, path, number):
    async with opened(chain, path) as node:
        for payer, price in zip(chain.payers, (600, 60), strict=True):
            await node.serve(payer, price)
    *earlier, phase = list(PHASES)[: number + 1]
    for before in earlier:
        _, _, path = await run_phase(chain, path, before, NEVER)
    steps, expected = await run_phase_and_go_back(chain, path, phase, NEVER)
    assert steps == STEPS[phase]
    published = [c.data_hash for c in expected["posted"][-1:]] if "publish" in steps else []
    assert expected["published"] == published
    for crash_before in range(len(steps)):
        _, outcome = await run_phase_and_go_back(chain, path, phase, crash_before)
        assert outcome == expected, f"after a crash before {steps[crash_before]}"


async def test_a_prepared_epoch_whose_pot_changed_is_prepared_anew(chain, path):
    ada, _ = chain.payers
    async with opened(chain, path) as node:
        await node.serve(ada, 100)
        chain.end_epoch(0)
        crashing = Crashing(0)
        client = node.chain.client()
        stopping = crashing.watch(client, ("post_epoch",), False)
        with pytest.raises(Crash):
            await node.settle(client=stopping)
        assert (await node.store.epochs.last(chain.lane)).state is EpochState.PREPARED
        await node.serve(ada, 40)
        channel = await node.store.ledger.channel(Role.WORKER, ada.session.address, chain.lane)
        client.redeem([channel.voucher])
        report = await node.settle()
        assert [c.receipt_sum for c in report.posted] == [140]


async def test_an_epoch_that_somebody_else_posted_is_an_error(chain, path):
    async with opened(chain, path) as node:
        await node.serve(chain.payers[0], 100)
        chain.end_epoch(0)
        client = node.chain.client()
        with pytest.raises(Crash):
            await node.settle(client=Crashing(0).watch(client, ("post_epoch",), False))
        prepared = (await node.store.epochs.last(chain.lane)).commitment
        client.post_epoch(chain.lane, replace(prepared, data_hash=bytes(31) + b"\x01"))
        with pytest.raises(ChainError, match="only one node may settle a lane"):
            await node.settle()


# ---- claiming in somebody else's lane


async def test_a_contributor_claims_from_the_published_data(chain, path, tmp_path):
    async with opened(chain, path) as node:
        await node.serve(chain.payers[0], 10_000)
        for advance in (lambda: chain.end_epoch(0), lambda: chain.end_epoch(1)):
            advance()
            await node.settle(claim_for=())
        client = ChainClient(chain.devchain.provider(), chain.deployment, chain.payers[1].owner.secret)
        async with opened(chain, tmp_path / "other.sqlite3") as other:
            claimer = Claimer(client, other.store.epochs, ManualClock(5))
            wanted = {CONTRIBUTORS[0], Address(b"\x99" * 20)}
            assert await claimer.claim_published(chain.lane, wanted, node.fetch) == ()
            chain.pass_window()
            (paid,) = await claimer.claim_published(chain.lane, wanted, node.fetch)
            assert (paid.account, paid.amount) == (CONTRIBUTORS[0], 2_000)
            assert node.balance(CONTRIBUTORS[0]) == 2_000
            assert await claimer.claim_published(chain.lane, wanted, node.fetch) == ()
            (entry,) = await other.store.epochs.journal()
            assert (entry.subject, entry.amount, entry.is_done, entry.at_ms) == (
                CONTRIBUTORS[0],
                2_000,
                True,
                5,
            )
            assert await claimer.claim_published(Address(bytes(20)), wanted, node.fetch) == ()
            node.published.clear()
            with pytest.raises(NotFound):
                await claimer.claim_published(chain.lane, CONTRIBUTORS, node.fetch)


async def test_published_data_that_was_not_committed_is_refused(chain, path):
    async with opened(chain, path) as node:
        await node.serve(chain.payers[0], 10_000)
        chain.end_epoch(0)
        await node.settle()
        first = (await node.store.epochs.last(chain.lane)).data
        chain.end_epoch(1)
        await node.settle()
        posted = chain.client().commitments(chain.lane)
        commitment = latest_final(posted, chain.now + TERMS.window)
        assert commitment is not None
        assert commitment.epoch == 1
        assert latest_final(posted, chain.now) is None
        for data in (first, b"", json.dumps({}).encode()):
            with pytest.raises(RemoteProtocolError):
                prove(chain.worker.client, commitment, data, None)
