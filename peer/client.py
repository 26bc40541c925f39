"""Asking from a program of one's own:

    async with Client.connect("/ip4/203.0.113.5/tcp/4001/p2p/12D3KooW…") as client:
        async for token in client.ask("What is the code for cholera?", adapter="alice/icd10"):
            print(token, end="")

A client is a peer of its own with a home (keys, receipts, vouchers). It never imports torch, and web3 only
with a chain.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import trio

from ..protocol.gossip.adverts import AdapterRecord
from .asking.answers import Answer, AskOptions, ask_options, receipt_ids
from .attribution.statements import ReceiptCredits
from .config import Config, load_config
from .home import Home
from .identity.keystore import Keystore
from .node import Node, open_node


class Client:
    """A running client peer; get one from `connect`."""

    def __init__(self, node: Node) -> None:
        self.node = node

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        *bootstrap: str,
        home: str | Path | None = None,
        config: Config | None = None,
    ) -> AsyncIterator[Client]:
        """Join the network that these multiaddrs (with /p2p/) lead into.

        `home` None uses a folder that is removed at the end, keys and receipts with it: for trying things
        out. `config` None reads the home's. Raises Unreachable when nobody answers, ConfigError.
        """
        with ExitStack() as stack:
            folder = home or stack.enter_context(tempfile.TemporaryDirectory(prefix="commonlore-"))
            place = Home.locate(folder).create()
            settings = config or load_config(place.config)
            if bootstrap:
                settings = replace(settings, bootstrap=tuple(bootstrap))
            keys = await trio.to_thread.run_sync(Keystore(place.keys).own)
            async with open_node(settings, place, keys) as node:
                yield cls(node)

    async def ask(
        self, prompt: str, adapter: str | None = None, **options: object
    ) -> AsyncGenerator[str, None]:
        """The answer's text as it comes.

        Close it (`contextlib.aclosing`) to cancel early; `adapter` may be several
        (`owner/a=0.7+owner/b=0.3`), `options` are AskOptions'.

        Raises NotFound, Refused, Unreachable, DeadlineExceeded, InsufficientEscrow.
        """
        async with self.answer(ask_options(prompt, adapter, **options)) as answer:
            async for delta in answer:
                if delta.text:
                    yield delta.text

    def answer(self, options: AskOptions) -> AbstractAsyncContextManager[Answer]:
        """The whole answer, with its receipts: `async with client.answer(options) as answer: …`."""
        return self.node.ask(options)

    async def credits(self, answer: Answer) -> list[ReceiptCredits]:
        """Who earns what from an answer, receipt by receipt, once it is whole."""
        return await credits_of(self.node, answer)

    def adapters(self) -> Sequence[AdapterRecord]:
        """The adapters that are known."""
        return self.node.catalog.adapters()


async def credits_of(node: Node, answer: Answer) -> list[ReceiptCredits]:
    """The credits of every receipt of a whole answer. Raises NotFound, Unreachable."""
    return [await node.statements.credits(each) for each in receipt_ids(answer.transcript.receipts)]
