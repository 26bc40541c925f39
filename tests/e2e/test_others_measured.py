"""A peer that measures another's adapter and finds otherwise says so: whoever looks by command sees it."""

from __future__ import annotations

from typing import Any

import trio

from commonlore.peer.attribution.faithfulness import announce
from commonlore.protocol.attribution.faithfulness import Correlations, Faithfulness
from commonlore.worker.attribution.sketch import METHOD

HERE = "contributor"
NOTHING = Correlations(1_000_000, 50_000, 1_100_000, 1_000_000, 50_000)


async def test_what_a_stranger_measured_is_shown_beside_the_authors(
    town: Any, adapter: str, until: Any
) -> None:
    async with town.client("dora") as dora:
        catalog = dora.node.catalog
        await until(lambda: adapter in {record.alias for record in dora.adapters()})
        named = catalog.adapter_id(adapter)
        author = (await catalog.adapter(named)).author
        index = catalog.record_of(named, author).index
        said = await announce(dora.node, Faithfulness(named, index, METHOD, 4, 4, 13, 2, 4, NOTHING))
        assert not said.by_author

        async def shown() -> Any:
            command = ("adapter", "show", adapter, "--json")
            return (await trio.to_thread.run_sync(lambda: town.lore(*command, home=HERE))).json

        def told() -> Any:
            with town.control(HERE) as control:
                return control.get(f"/adapters/{adapter}")["others_measured"]

        async def heard() -> bool:
            return await trio.to_thread.run_sync(told) is not None

        await until(heard)
        found = await shown()
    assert "1 other measured these scores, unchecked, and no pay changes by it" in found["others_measured"]
    assert str(dora.node.host.peer_id) in found["others_measured"]
    assert "+0.00 ± 0.10 (not above chance)" in found["others_measured"]
    assert found["faithfulness"] != said.statement, "only its author's word pays"
