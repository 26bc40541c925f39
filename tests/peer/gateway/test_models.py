"""What bases are called: a worker says so, and no worker has more say than another."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from commonlore.peer.gateway.models import Models
from commonlore.protocol.ids import Cid, cid_of

ONE, TWO = sorted((cid_of(b"one"), cid_of(b"two")))
SAID: list[tuple[Sequence[tuple[Cid, str | None]], dict[str, Cid]]] = [
    ([(ONE, "llama")], {"llama": ONE}),
    ([(ONE, None)], {ONE: ONE}),
    ([(ONE, "llama"), (ONE, "lama"), (ONE, "llama")], {"llama": ONE}),
    ([(ONE, "llama"), (TWO, "llama"), (TWO, "llama")], {"llama": TWO, ONE: ONE}),
    ([(ONE, "a"), (TWO, "b")], {"a": ONE, "b": TWO}),
]


@pytest.mark.parametrize(("said", "names"), SAID)
async def test_a_base_is_called_what_most_of_its_workers_call_it(said: Any, names: dict[str, Cid]) -> None:
    offers = [SimpleNamespace(ad=SimpleNamespace(base=b, base_name=n, issued_ms=5_000)) for b, n in said]
    node: Any = SimpleNamespace(
        asker=SimpleNamespace(offers=lambda: offers), catalog=SimpleNamespace(adapters=tuple)
    )
    listed = await Models(node).listed()
    assert {entry["id"]: entry["commonlore"]["base"] for entry in listed} == names


async def test_a_model_that_was_announced_elsewhere_just_now_is_asked_for(opened) -> None:
    async with opened() as door:
        asked = 0

        async def told() -> None:
            nonlocal asked
            asked += 1
            door.node.announce_adapter("bob/new")

        door.node.catalog.ask_around = told
        wanted = {"messages": [{"role": "user", "content": "?"}]}
        for model, status in (("bob/new", 200), ("bob/new=0.5+no/such=0.5", 404), ("bob/new", 200)):
            reply = await door.request("POST", "/v1/chat/completions", json={"model": model, **wanted})
            assert reply.status_code == status, reply.text
        assert asked == 2, "what is known is asked for of nobody"
