"""A settler that stops before any of its steps, and begins anew, comes to the same end."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest

from commonlore.contracts.calling.transactions import Sending
from commonlore.contracts.client.bonding import BondRole
from commonlore.contracts.client.chain import ChainClient
from commonlore.contracts.client.demanding import Tree
from commonlore.contracts.embedded.unsteady import UnsteadyChain
from commonlore.peer.store.epochs import EpochState
from commonlore.peer.store.ledger_rows import Role
from commonlore.protocol.errors import ChainError, DeadlineExceeded
from commonlore.protocol.ids import digest_of


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

    def watch(self, target, names, is_async, **parts):
        """`target` with these methods counted, and these attributes in place of its own."""
        return Watched(self, target, names, is_async, parts)


class Watched:
    def __init__(self, crashing, target, names, is_async, parts):
        self._crashing, self._target, self._names, self._is_async = crashing, target, names, is_async
        self.__dict__ |= parts

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


MARKS = ("prepare", "withdraw", "mark_posted", "take_back", "mark_final", "intend", "done")
SENDS = ("redeem", "post_epoch", "claim")


NEVER = 1_000
BOND = 5_000


def demand(chain):
    """Somebody wants to see a leaf of each of two trees."""
    *_, posted = chain.client().commitments(chain.lane)
    for tree in (Tree.RECEIPTS, Tree.LINES):
        chain.payers[0].client.demands.demand(chain.lane, posted.commitment, tree, 1)


PHASES = {
    "bond": lambda chain: chain.devchain.fund(chain.worker.owner.address, BOND),
    "redeem and post": lambda chain: chain.end_epoch(0),
    "answer": demand,
    "post what was earned": lambda chain: chain.end_epoch(1),
    "claim": lambda chain: chain.pass_window(),
}


POST = ["prepare", "publish", "intend", "post_epoch", "mark_posted", "done"]
STEPS = {
    "bond": ["intend", "bond", "done"],
    "redeem and post": ["intend", "redeem", "done", *POST],
    "answer": 2 * ["intend", "answer", "done"],
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
        client = node.chain.client()
        bonds = crashing.watch(client.bonds, ("bond",), False)
        demands = crashing.watch(client.demands, ("answer",), False)
        client = crashing.watch(client, SENDS, False, bonds=bonds, demands=demands)
        publish = crashing.watch(node, ("publish",), True).publish
        try:
            await node.settle(store=store, client=client, publish=publish, bond=BOND)
            return
        except Crash:
            continue


async def everything(node, make):
    """All that a settled lane is, on the chain and in the store."""
    chain, client = node.chain, node.chain.client()
    accounts = [*make.earned_by(chain, 0), *(payer.owner.address for payer in chain.payers)]
    return {
        "lane": client.lane_state(chain.lane),
        "posted": [p.commitment for p in client.commitments(chain.lane)],
        "tokens": [client.balance(account) for account in accounts],
        "escrow": [client.owner_balance(payer.owner.address) for payer in chain.payers],
        "epochs": [(e.commitment, e.state, e.data) for e in await node.store.epochs.all(chain.lane)],
        "receipts": [(r.receipt_hash, r.commitment, r.credits) for r in await node.store.ledger.receipts()],
        "published": [digest_of(cid) for cid in node.published],
        "bond": client.bonds.of(chain.worker.owner.address, BondRole.POSTER),
        "demands": client.demands.open(),
    }


async def run_phase(make, chain, path, phase, crash_before):
    """A phase on a copy of the store at `path`, with a crash: its steps, what came of it, and the copy."""
    PHASES[phase](chain)
    copy = path.with_name(f"{phase} {crash_before}.sqlite3")
    shutil.copy(path, copy)
    crashing = Crashing(crash_before)
    async with make.opened(chain, copy) as node:
        await settle_with_crash(node, crashing)
        return crashing.passed, await everything(node, make), copy


async def run_phase_and_go_back(make, chain, path, phase, crash_before):
    saved, now = chain.devchain.rpc.handle("evm_snapshot", []), chain.now
    steps, outcome, _ = await run_phase(make, chain, path, phase, crash_before)
    chain.devchain.rpc.handle("evm_revert", [saved])
    chain.now = now
    return steps, outcome


@pytest.mark.parametrize("number", range(len(PHASES)), ids=list(PHASES))
async def test_a_crash_anywhere_changes_nothing(chain, path, number, make):
    async with make.opened(chain, path) as node:
        for payer, price in zip(chain.payers, (600, 60), strict=True):
            await node.serve(payer, price)
    *earlier, phase = list(PHASES)[: number + 1]
    for before in earlier:
        _, _, path = await run_phase(make, chain, path, before, NEVER)
    steps, expected = await run_phase_and_go_back(make, chain, path, phase, NEVER)
    assert steps == STEPS[phase]
    published = [c.data_hash for c in expected["posted"][-1:]] if "publish" in steps else []
    assert expected["published"] == published
    for crash_before in range(len(steps)):
        _, outcome = await run_phase_and_go_back(make, chain, path, phase, crash_before)
        assert outcome == expected, f"after a crash before {steps[crash_before]}"


async def test_a_prepared_epoch_whose_pot_changed_is_prepared_anew(chain, path, make):
    ada, _ = chain.payers
    async with make.opened(chain, path) as node:
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


async def test_an_epoch_that_somebody_else_posted_is_an_error(chain, path, make):
    async with make.opened(chain, path) as node:
        await node.serve(chain.payers[0], 100)
        chain.end_epoch(0)
        client = node.chain.client()
        with pytest.raises(Crash):
            await node.settle(client=Crashing(0).watch(client, ("post_epoch",), False))
        prepared = (await node.store.epochs.last(chain.lane)).commitment
        client.post_epoch(chain.lane, replace(prepared, data_hash=bytes(31) + b"\x01"))
        with pytest.raises(ChainError, match="restore this home's latest store"):
            await node.settle()


async def test_a_transaction_that_outlives_its_settler_counts_once(chain, path, make):
    """Each is on its way, not yet mined, when the settler dies; it is mined before the next one begins."""
    unsteady = UnsteadyChain(chain.devchain)
    hasty, secret = Sending(again_s=99.0, confirm_s=0.0), chain.worker.owner.secret
    outlived = 0
    async with make.opened(chain, path) as node:
        for payer, price in zip(chain.payers, (600, 60), strict=True):
            await node.serve(payer, price)
        for move in (lambda: chain.end_epoch(0), lambda: chain.end_epoch(1), chain.pass_window):
            move()
            while True:
                unsteady.holds = True
                client = ChainClient(unsteady.provider(), chain.deployment, secret, 0.0, hasty)
                try:
                    report = await node.settle(client=client)
                except DeadlineExceeded:
                    outlived += 1
                    unsteady.holds = False
                    unsteady.mine_waiting()
                    continue
                assert not report.transactions
                break
        earned = make.earned_by(chain, 600, 60)
        assert {account: node.balance(account) for account in earned} == earned
        assert [e.state for e in await node.store.epochs.all(chain.lane)] == [EpochState.FINAL] * 2
        assert outlived == 7, "three bindings, the redemption, two commitments, the claims"
