"""Attributors of an embedded chain, and a lane whose receipts they are drawn for."""

from dataclasses import dataclass, field

from commonlore.peer.roles.checker import Checker
from commonlore.peer.watchtower.attesting import ROLE, Attesting, Sources
from commonlore.peer.watchtower.seeding import Seeding


@dataclass
class Attributor:
    """A bonded account with statements of its own, by receipt hash."""

    party: object
    stated: dict = field(default_factory=dict)

    @property
    def account(self):
        return self.party.owner.address

    def balance(self, chain):
        return chain.client().balance(self.account)

    async def look(self, node, settings):
        """As after a start: nothing but the chain and the store is remembered."""

        async def own(receipt_hash, adapter):
            return self.stated.get(receipt_hash)

        client = self.party.client
        attesting = Attesting(client, self.party.owner, Sources(node.fetch, node.adapters.adapter, own))
        checker = Checker(client, Seeding(client, settings), attesting)
        return await checker.look()


class Lane:
    """One answer of the adapter, posted and paid by the worker's statement; then a round that draws."""

    def __init__(self, node, stores, attributors, make):
        self.node, self.chain, self.make = node, node.chain, make
        self.stores, self.attributors = stores, attributors

    async def serve(self, price, paid_by, crediting=None, second=None):
        chain, node = self.chain, self.node
        self.receipt = await node.serve(chain.payers[0], price)
        self.unscored = await node.serve(chain.payers[0], 500)
        await node.store.records.put_statement(self.make.stated(chain.worker.peer, self.receipt, paid_by))
        if second is not None:
            await node.store.records.put_statement(self.make.stated(second[0], self.receipt, second[1]))
        for epoch in range(2):
            chain.end_epoch(epoch)
            await node.settle(**{"crediting": crediting} if crediting else {})

    async def look(self):
        """Both look; what they could not do."""
        pairs = zip(self.attributors, self.stores, strict=True)
        return [reason for one, store in pairs for reason in await one.look(self.node, store.settings)]

    async def draw(self):
        """Round 1, from its beginning to its seed, with both in it."""
        chain = self.chain
        for part in (0, chain.deployment.round_length // 2):
            chain.now = chain.deployment.genesis + chain.deployment.round_length + part
            assert await self.look() == []
            assert await self.look() == [], "nothing is hidden or shown twice"
        chain.now += chain.deployment.round_length // 2
        assert await self.look() == []
        for _ in range(2):
            chain.devchain.rpc.handle("evm_mine", [])
        await self.attributors[0].look(self.node, self.stores[0].settings)
        assert chain.client().beacon.seed(1) is not None

    def works(self):
        return self.chain.client().work_pool.works(self.receipt, ROLE)
