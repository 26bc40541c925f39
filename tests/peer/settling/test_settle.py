"""Settlement on a real embedded chain, exact to the unit; and what cannot be settled yet."""

import pytest
import trio

from commonlore.peer.settling.crediting import Crediting, NetworkAccounts
from commonlore.peer.store.epochs import EpochState
from commonlore.peer.store.ledger_rows import Role
from commonlore.protocol.attribution.pools import Basis
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import ChainError, NotFound, Unreachable
from commonlore.protocol.ids import Address, cid_of, keccak256
from commonlore.protocol.receipts.records import Weight
from commonlore.protocol.signing.bindings import bind
from commonlore.protocol.signing.keys import AccountKey, PeerKey

GENESIS = 1_800_000_000
CONTRIBUTORS = tuple(Address(bytes([0xC0 + i]) * 20) for i in range(3))
AUTHOR = AccountKey.from_secret(keccak256(b"author")).address


async def test_from_vouchers_to_claims(chain, path, make):
    ada, bob = chain.payers
    prices = (600_000, 60_000, 300_000, 6_000)
    async with make.opened(chain, path) as node:
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
        expected = make.earned_by(chain, *prices)
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


async def test_epochs_go_on(chain, path, make):
    ada, bob = chain.payers
    async with make.opened(chain, path) as node:
        await node.serve(ada, 1_000, 0)
        await node.settle_all(0)
        await node.serve(ada, 2_000, 3, adapter=False)
        await node.serve(bob, 777, 4)
        report = await node.settle_all(4, prompt_epochs=2)
        prompts = {one.receipt.epoch: one.prompt is not None for one in await node.store.ledger.receipts()}
        assert prompts == {0: False, 3: True, 4: True}  # 5 is final: of what is older than 3 hashes stay
        total = 1_000 + 2_000 + 777
        assert sum(p.amount for p in report.claimed) == 2_777
        state = node.lane_state
        assert state.pot == state.committed == state.claimed == total
        stored = await node.store.epochs.all(chain.lane)
        assert [(e.epoch, e.state) for e in stored] == [(e, EpochState.FINAL) for e in (0, 1, 4, 5)]
        posted = chain.client().commitments(chain.lane)
        assert [p.commitment for p in posted] == [e.commitment for e in stored]


async def test_what_was_asked_is_kept_until_the_next_commitment_had_it_scored(chain, path, make):
    ada, _ = chain.payers
    async with make.opened(chain, path) as node:
        await node.serve(ada, 1_000, 0)
        chain.end_epoch(0)
        await node.settle()
        chain.pass_window()
        await node.settle(prompt_epochs=0)
        (epoch,) = await node.store.epochs.all(chain.lane)
        assert (epoch.epoch, epoch.state) == (0, EpochState.FINAL)
        (receipt,) = await node.store.ledger.receipts()
        assert receipt.prompt is not None, "its drawn receipts are scored when the next epoch is posted"
        chain.end_epoch(1)
        await node.settle(prompt_epochs=0)
        chain.pass_window()
        await node.settle(prompt_epochs=0)
        (receipt,) = await node.store.ledger.receipts()
        assert receipt.prompt is None


async def test_a_receipt_of_a_later_epoch_keeps_what_comes_after_it_waiting(chain, path, make):
    ada, bob = chain.payers
    async with make.opened(chain, path) as node:
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


async def test_statements_of_the_lanes_own_peer_divide_the_contributors_share(chain, path, make):
    ada, _ = chain.payers
    async with make.opened(chain, path) as node:
        paid = await node.serve(ada, 10_000)
        stranger = PeerKey.generate(bytes(32))

        async def state(key, *weights):
            await node.store.records.put_statement(make.stated(key, paid, weights))

        await state(stranger, Weight(CONTRIBUTORS[2], PPM))
        await state(chain.worker.peer, Weight(CONTRIBUTORS[0], 900_000), Weight(CONTRIBUTORS[1], 100_000))
        report = await node.settle_all(0)
        claimed = {p.account: p.amount for p in report.claimed}
        assert [claimed.get(account) for account in CONTRIBUTORS] == [3_600, 400, None]


async def test_scores_divide_nothing_but_by_what_the_author_measured_of_their_index(chain, path, make):
    """A worker may name any measurement: one that nobody has, of another index, by another key or method."""
    named = [{"faithfulness": cid_of(b"none")}, {"index": cid_of(b"another")}, {"method": "another"}, {}]
    async with make.opened(chain, path) as node:
        crediting = node.parts().crediting
        for number, changes in enumerate(named):
            sealed = make.stated(
                chain.worker.peer, bytes([number]) * 32, (Weight(CONTRIBUTORS[0], PPM),), **changes
            )
            await node.store.records.put_statement(sealed)
        found = [await crediting.judged(make.MANIFEST, make.ADAPTER, bytes([n]) * 32) for n in range(4)]
        assert [each.basis for each in found] == [*[Basis.PRIOR] * 3, Basis.SINGLE]


async def test_a_strangers_word_without_the_workers_own_divides_nothing(chain, path, make):
    async with make.opened(chain, path) as node:
        accounts = NetworkAccounts(AUTHOR, AUTHOR)
        crediting = Crediting(accounts, node.store.records, make.Adapters(), bytes(32), seconds=True)
        paid, stranger = await node.serve(chain.payers[0], 10_000), PeerKey.generate(bytes(32))
        await node.store.records.put_statement(make.stated(stranger, paid, (Weight(CONTRIBUTORS[2], PPM),)))
        assert (await crediting.judged(make.MANIFEST, make.ADAPTER, paid)).basis is Basis.PRIOR


async def test_statements_that_pay_strangers_or_do_not_add_up_fall_back_to_the_priors(chain, path, make):
    async with make.opened(chain, path) as node:
        crediting = node.parts().crediting
        for number, weights in enumerate(
            ((Weight(AUTHOR, PPM),), (Weight(CONTRIBUTORS[0], 1),), (Weight(CONTRIBUTORS[0], PPM),))
        ):
            sealed = make.stated(chain.worker.peer, bytes([number]) * 32, weights)
            await node.store.records.put_statement(sealed)
        judged = [await crediting.judged(make.MANIFEST, make.ADAPTER, bytes([n]) * 32) for n in range(3)]
        found = [each.weights for each in judged]
        priors = tuple(Weight(p.payee, p.ppm) for p in make.MANIFEST.priors)
        assert found == [priors, priors, (Weight(CONTRIBUTORS[0], PPM),)]


# ---- what cannot be settled now


async def test_an_empty_escrow_pays_the_highest_covered_voucher_and_the_rest_later(chain, path, make):
    ada, bob = chain.payers
    async with make.opened(chain, path) as node:
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


async def test_two_channels_of_one_balance(chain, path, make):
    """Both channels' highest vouchers seem covered; together they are not."""
    ada, _ = chain.payers
    second = make.Party(chain, "ada")
    second.session = AccountKey.from_secret(keccak256(b"another session"))
    second.binding = bind(
        chain.deployment.domain, ada.owner, second.session, ada.peer, GENESIS - 1, GENESIS + 10**8
    )
    async with make.opened(chain, path) as node:
        for payer in (ada, second):
            for _ in range(2):
                await node.serve(payer, 300_000)
        chain.end_epoch(0)
        report = await node.settle()
        assert report.redeemed == 900_000
        assert len(report.waiting) <= 1
        await node.settle_all(1)
        assert node.lane_state.claimed == 900_000


async def test_a_payer_nobody_can_bind_keeps_no_other_waiting(chain, path, make):
    ada, bob = chain.payers
    async with make.opened(chain, path) as node:
        await node.serve(ada, 100, bound=False)
        await node.serve(bob, 200)
        chain.end_epoch(0)
        report = await node.settle()
        assert report.redeemed == 200
        assert "bound to no owner" in report.waiting[0].reason
        await node.store.records.put_binding(ada.binding)
        chain.end_epoch(1)
        assert (await node.settle()).redeemed == 100


async def test_receipts_whose_credits_are_unknown_wait(chain, path, make):
    ada, bob = chain.payers
    async with make.opened(chain, path) as node:
        await node.serve(ada, 50, adapter=False)
        await node.serve(ada, 100)
        await node.serve(ada, 10, adapter=False)
        await node.serve(bob, 200, adapter=False)

        class Unknown(make.Adapters):
            async def adapter(self, cid):
                raise NotFound(f"nobody has {cid}")

        crediting = Crediting(NetworkAccounts(AUTHOR, AUTHOR), node.store.records, Unknown(), bytes(32))
        chain.end_epoch(0)
        report = await node.settle(crediting=crediting)
        assert report.redeemed == 250
        assert "nobody has" in report.waiting[0].reason
        chain.end_epoch(1)
        assert (await node.settle()).redeemed == 110


async def test_more_receipts_than_a_commitment_holds_wait_for_the_next(chain, path, make, monkeypatch):
    monkeypatch.setattr("commonlore.peer.settling.redemption.MAX_RECEIPTS", 3)
    async with make.opened(chain, path) as node:
        for payer in chain.payers:
            for _ in range(2):
                await node.serve(payer, 100)
        chain.end_epoch(0)
        report = await node.settle()
        assert [c.receipt_count for c in report.posted] == [3]
        assert "the next epoch goes on" in report.waiting[0].reason
        chain.end_epoch(1)
        assert [c.receipt_count for c in (await node.settle()).posted] == [1]


async def test_another_posters_epoch_is_noticed(chain, path, make):
    async with make.opened(chain, path) as node:
        await node.serve(chain.payers[0], 100)
        chain.end_epoch(0)
        before = path.with_name("before.sqlite3")
        await node.settle()
    async with make.opened(chain, before) as lost:
        chain.end_epoch(1)
        with pytest.raises(ChainError, match="restore this home's latest store"):
            await lost.settle()


async def test_another_chain_is_noticed(chain, path, make):
    saved = chain.devchain.rpc.handle("evm_snapshot", [])
    async with make.opened(chain, path) as node:
        await node.serve(chain.payers[0], 100)
        await node.settle_all(0)
        chain.devchain.rpc.handle("evm_revert", [saved])
        with pytest.raises(ChainError, match="is it another chain"):
            await node.settle()


async def test_what_the_chain_took_back_is_done_again(chain, path, make):
    """Three blocks are replaced: the redemption and the commitment in them come anew, and are paid once."""
    ada, bob = chain.payers
    async with make.opened(chain, path) as node:
        await node.serve(ada, 100)
        await node.settle_all(0)
        first = node.lane_state
        await node.serve(ada, 250, epoch=2)
        await node.serve(bob, 70, epoch=2)
        chain.end_epoch(3)
        before = chain.devchain.rpc.handle("evm_snapshot", [])
        settler = node.settler()
        posted = (await settler.settle_once()).posted
        after = node.lane_state
        chain.devchain.rpc.handle("evm_revert", [before])
        for _ in range(3):
            chain.devchain.rpc.handle("evm_mine", [])
        assert node.lane_state == first
        report = await settler.settle_once()
        assert (report.posted, report.redeemed) == (posted, 320)
        assert node.lane_state == after
        assert (await settler.settle_once()).is_idle
        assert [c.commitment.epoch for c in chain.client().commitments(chain.lane)] == [0, 1, 3]


async def test_a_commitment_alone_that_was_taken_back_is_posted_again(chain, path, make):
    """The redemption stands, the commitment's block does not."""
    async with make.opened(chain, path) as node:
        await node.serve(chain.payers[0], 100)
        chain.end_epoch(0)
        settler, marks = node.settler(), {}
        post = settler._posting._client.post_epoch

        def marked(*arguments):
            marks["before"] = chain.devchain.rpc.handle("evm_snapshot", [])
            return post(*arguments)

        settler._posting._client.post_epoch = marked
        (commitment,) = (await settler.settle_once()).posted
        chain.devchain.rpc.handle("evm_revert", [marks["before"]])
        report = await node.settle()
        assert (report.posted, report.redeemed) == ([commitment], 0)
        (stored,) = await node.store.epochs.all(chain.lane)
        assert (stored.state, stored.tx) == (EpochState.POSTED, report.transactions[-1])


async def test_claims_that_were_taken_back_are_made_again(chain, path, make):
    async with make.opened(chain, path) as node:
        await node.serve(chain.payers[0], 1_000)
        chain.end_epoch(0)
        await node.settle()
        chain.end_epoch(1)
        await node.settle()
        chain.pass_window()
        before = chain.devchain.rpc.handle("evm_snapshot", [])
        settler = node.settler()
        claimed = (await settler.settle_once()).claimed
        chain.devchain.rpc.handle("evm_revert", [before])
        assert (await settler.settle_once()).claimed == claimed
        assert (await settler.settle_once()).is_idle


async def test_money_that_no_receipt_explains_stops_the_posting(chain, path, make):
    ada, _ = chain.payers
    async with make.opened(chain, path) as node:
        await node.serve(ada, 100)
        await node.serve(ada, 200)
        newest = (await node.store.ledger.channel(Role.WORKER, ada.session.address, chain.lane)).voucher
    fresh = path.with_name("fresh.sqlite3")
    async with make.opened(chain, fresh) as node:
        await node.serve(ada, 100)
        for binding in (ada.binding, chain.worker.binding):
            chain.worker.client.bind(binding)
        chain.worker.client.redeem([newest])
        chain.end_epoch(0)
        with pytest.raises(ChainError, match="grew by 300 units; the receipts here explain 100"):
            await node.settle()
        assert not chain.client().commitments(chain.lane)


# ---- the chain goes away


async def test_without_the_chain_nothing_is_lost(chain, path, make):
    async with make.opened(chain, path) as node:
        await node.serve(chain.payers[0], 100)
        chain.end_epoch(0)
        chain.down = True
        with pytest.raises(Unreachable):
            await node.settle()
        await node.serve(chain.payers[0], 50)
        chain.down = False
        assert (await node.settle()).redeemed == 150


async def test_the_loop_waits_says_why_and_goes_on(chain, path, caplog, until, make):
    async with make.opened(chain, path) as node:
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


async def test_a_renewed_session_key_goes_on_being_paid(chain, path, make):
    """The chain knows the binding that its first voucher came with; a later one is brought when it is
    needed."""
    ada = chain.payers[0]
    keys = (ada.owner, ada.session, ada.peer)
    renewed = bind(chain.deployment.domain, *keys, chain.now - 1, chain.now + 10**8)
    ada.binding = bind(chain.deployment.domain, *keys, chain.now - 1, chain.now + 2_000)
    async with make.opened(chain, path) as node:
        await node.serve(ada, 100)
        chain.end_epoch(0)
        assert (await node.settle()).redeemed == 100
        ada.binding = renewed
        await node.serve(ada, 200, epoch=1)
        chain.end_epoch(3)  # after the first binding's end
        report = await node.settle()
        assert (report.redeemed, report.waiting) == (200, [])


async def test_a_lane_s_renewed_binding_comes_with_its_next_redemption(chain, path, make):
    client, worker = chain.client(), chain.worker
    keys = (worker.owner, worker.session, worker.peer)
    domain, lane = chain.deployment.domain, worker.session.address
    worker.binding = bind(domain, *keys, chain.now - 1, chain.now + 10**7)
    async with make.opened(chain, path) as node:
        settler = node.settler()
        await node.serve(chain.payers[0], 100)
        chain.end_epoch(0)
        await settler.settle_once()
        first = client.escrow_of(lane, lane).session_ends
        assert first == worker.binding.binding.not_after
        worker.binding = bind(domain, *keys, chain.now - 1, first + 7)
        await node.serve(chain.payers[0], 200, epoch=1)
        chain.end_epoch(1)
        await settler.settle_once()
        assert client.escrow_of(lane, lane).session_ends == first + 7
