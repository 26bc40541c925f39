"""A pool too large to be drawn whole, settled on a real embedded chain and recomputed from what is public."""

from dataclasses import replace

from commonlore.protocol.attribution.pools import FEWEST_DRAWN, Basis
from commonlore.protocol.encoding.codec import decode
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.ids import Address
from commonlore.protocol.receipts.records import Weight
from commonlore.protocol.settlement.commitments import EpochData
from commonlore.protocol.settlement.pool_check import recheck_pools
from commonlore.protocol.settlement.published import MAX_EPOCH_BYTES

CONTRIBUTORS = tuple(Address(bytes([0xC0 + i]) * 20) for i in range(3))
RECEIPTS = FEWEST_DRAWN + 8


async def test_a_stranger_recomputes_what_a_drawn_pool_paid(chain, path, make):
    ada, _ = chain.payers
    async with make.opened(chain, path) as node:
        for number in range(RECEIPTS):
            paid = await node.serve(ada, 1_000 + number)
            first = PPM * number // RECEIPTS
            weights = (Weight(CONTRIBUTORS[0], first), Weight(CONTRIBUTORS[1], PPM - first))
            sealed = make.stated(chain.worker.peer, paid, tuple(w for w in weights if w.ppm))
            await node.store.records.put_statement(sealed)
        report = await node.settle_all(0)
        claimed = {p.account: p.amount for p in report.claimed}
        data = [decode(EpochData, raw, MAX_EPOCH_BYTES) for raw in node.published.values()]
    earlier, later = sorted(data, key=lambda one: one.epoch)[:2]
    (pool,) = {placed.pool for settled in earlier.receipts for placed in settled.placed}

    def recheck(published):
        key = chain.worker.peer.public
        return recheck_pools(chain.deployment.domain, earlier, published, {pool: make.MANIFEST}, key)[pool]

    found = recheck(later)
    assert not found.wrong
    assert later.beacon
    assert len(found.division.drawn) == len(later.statements) == FEWEST_DRAWN
    pooled = [each for each in found.division.receipts.values() if each.basis is Basis.POOLED]
    assert len(pooled) == RECEIPTS - FEWEST_DRAWN
    assert {each.weights for each in pooled} == {found.division.mean}
    owed = sum(settled.receipt.shares.contributors for settled in earlier.receipts)
    assert sum(claimed.get(account, 0) for account in CONTRIBUTORS) == owed

    moved = tuple(replace(one, amount=one.amount + 1) if one.role == 4 else one for one in later.credits)
    assert set(recheck(replace(later, credits=moved)).wrong) == set(CONTRIBUTORS[:2])
    assert recheck(replace(later, beacon=bytes(32))).wrong, "another draw pays otherwise"
    assert recheck(replace(later, statements=later.statements[1:])).wrong
    assert recheck(replace(later, measured=None)).wrong, "scores divide by a measurement that can be read"
