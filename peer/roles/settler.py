"""The settler role: this worker's lane is redeemed, posted and claimed for, beside everything else the node
does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from ...protocol.errors import LocalProtocolError
from ...protocol.ids import Address, Cid
from ...protocol.settlement.published import MAX_EPOCH_BYTES
from ..node import Node
from ..settling.committed_indexes import is_barred
from ..settling.crediting import Crediting
from ..settling.lane import Settler
from ..settling.redemption import SettleParts


@asynccontextmanager
async def open_settler(node: Node) -> AsyncIterator[Settler]:
    """The settler of this node's own lane, running until the node closes."""
    if node.chain.client is None:
        raise LocalProtocolError("settling needs a chain endpoint: set chain_url and deployment")
    crediting = Crediting(
        node.chain.accounts,
        node.store.records,
        node.catalog,
        node.keys.peer.public,
        seconds=True,  # what others stated, this node asked them for
        state=None if node.worker is None else node.worker.attributing.state_drawn,
        barred=partial(is_barred, node.domain, node.chain.client),
    )

    async def fetch(_: Address, cid: Cid) -> bytes:
        return await node.content.get(cid, MAX_EPOCH_BYTES)

    parts = SettleParts(
        client=node.chain.client,
        store=node.store,
        crediting=crediting,
        publish=node.content.put,
        binding=node.binding.current,
        clock=node.clock,
        claim_for=(node.keys.owner.address,),
        bond=node.config.bond,
        prompt_epochs=node.config.prompt_epochs,
        fetch=fetch,
    )
    settler = Settler(parts)
    node.nursery.start_soon(settler.run, float(node.config.settle_interval_s))
    yield settler
