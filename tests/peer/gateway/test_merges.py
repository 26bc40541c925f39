"""Merged adapters behind the control socket: ordered, listed, shown, and named on receipts."""

from __future__ import annotations

from typing import Any

import pytest

from commonlore.peer.gateway.errors import InvalidRequest
from commonlore.peer.gateway.fake import BASE, CONTRIBUTOR
from commonlore.peer.gateway.node import MergeOrder
from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.content.manifests import AdapterManifest, Merge, PriorWeight, Recipe
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import ConfigError, NotFound
from commonlore.protocol.ids import Cid, cid_of
from commonlore.worker.factory.merge_job import make_plan

PARTS = [{"name": "alice/icd10", "weight_ppm": 700_000}, {"name": "bob/cwe", "weight_ppm": 1_300_000}]


async def order(door: Any, **body: Any) -> list[dict[str, Any]]:
    """Every line of one merge."""
    wanted = {"name": "me/both", "adapters": PARTS, "method": "dare_ties", **body}
    return await door.control(lambda client: list(client.stream("/merge", wanted)))


def merged_adapter(node: Any, parts: list[Cid]) -> Cid:
    """An adapter that was merged from these, announced as me/both, whose manifest is at hand."""
    weighted = (AdapterWeight(parts[0], 700_000), AdapterWeight(parts[1], 1_300_000))
    manifest = AdapterManifest(
        name="both",
        base=BASE,
        weights=cid_of(b"weights"),
        weights_size=7,
        rank=8,
        alpha=8,
        targets=("q_proj",),
        template=bytes(32),
        datanets=(cid_of(b"datanet"),),
        recipe=Recipe("t", 0, 0, 0, 8, 8, 0, 7, "fp32", ""),
        early_checkpoint=None,
        factors=None,
        split=DEFAULT_SPLIT,
        priors=(PriorWeight(CONTRIBUTOR, PPM),),
        licence="CC0-1.0",
        author=bytes(32),
        author_payee=CONTRIBUTOR,
        parents=tuple(parts),
        merge=Merge("dare_ties", weighted, 500_000, 7),
    )
    return node.announce_adapter("me/both", adapter=node.keep(manifest))


async def test_a_merge_is_followed_to_what_was_published(opened) -> None:
    async with opened(roles=()) as door:
        lines = await order(door, density_ppm=400_000, seed=7, licence="MIT")
        assert [line["progress"]["stage"] for line in lines[:1]] == ["merging"]
        assert lines[-1]["done"]["alias"] == "me/both"
        plan = make_plan("dare_ties", density_ppm=400_000, seed=7)
        adapters = (("alice/icd10", 700_000), ("bob/cwe", 1_300_000))
        assert door.actions.merged == [MergeOrder("me/both", adapters, plan, "MIT")]


@pytest.mark.parametrize(
    ("body", "error", "says"),
    [
        ({"method": None}, InvalidRequest, "method is missing"),
        ({"method": "slerp"}, ConfigError, "no merging method 'slerp'; choose one of linear, cat, svd, ties"),
        ({"density_ppm": 0}, ConfigError, "a density of 0.0; it must lie above 0 and be at most 1"),
        ({"density_ppm": PPM + 1}, ConfigError, "a density of 1.000001; it must lie"),
        ({"rank": 8}, ConfigError, "a rank means nothing to the method dare_ties"),
        ({"adapters": []}, InvalidRequest, "adapters"),
        ({"adapters": [PARTS[0]] * 9}, InvalidRequest, "adapters has 9 items; expected 1 to 8"),
        ({"adapters": [{"name": "a/b", "weight_ppm": 0}]}, InvalidRequest, "weight_ppm is 0; expected a"),
        ({"alpha": 3}, InvalidRequest, "alpha is not supported here"),
    ],
)
async def test_an_order_that_makes_no_sense(opened, body, error, says: str) -> None:
    async with opened(roles=()) as door:
        with pytest.raises(error, match=says):
            await order(door, **body)
        assert door.actions.merged == []


async def test_of_what_an_adapter_was_merged_is_listed_and_shown(opened) -> None:
    async with opened(roles=()) as door:
        parts = [door.node.announce_adapter(name) for name in ("alice/icd10", "bob/cwe")]
        merged = merged_adapter(door.node, parts)
        words = "dare_ties of alice/icd10=0.7+bob/cwe=1.3, density 0.5, seed 7"
        listed = await door.control(lambda client: client.get("/adapters"))
        assert {one["alias"]: one["merged"] for one in listed} == {
            "alice/icd10": None,
            "bob/cwe": None,
            "me/both": words,
        }
        for name in ("me/both", merged):
            shown = await door.control(lambda client, name=name: client.get(f"/adapters/{name}"))
            assert (shown["id"], shown["alias"], shown["merged"]) == (merged, "me/both", words)
            assert shown["parents"] == parts
            assert shown["merge"]["parts"][1] == {"adapter": parts[1], "weight_ppm": 1_300_000}
        with pytest.raises(NotFound, match="unknown adapter 'no/such'; known: alice/icd10, bob/cwe, me/both"):
            await door.control(lambda client: client.get("/adapters/no/such"))


async def test_receipts_name_compositions_and_merges(opened) -> None:
    async with opened(roles=()) as door:
        parts = [door.node.announce_adapter(name) for name in ("alice/icd10", "bob/cwe")]
        merged = merged_adapter(door.node, parts)

        async def receipt_of(**body: Any) -> dict[str, Any]:
            def ask(client: Any) -> dict[str, Any]:
                *_, last = client.stream("/ask", {"prompt": "?", **body})
                return client.get(f"/receipts/{last['done']['receipts'][0]['id']}")

            return await door.control(ask)

        composed = await receipt_of(adapter="alice/icd10=0.7+bob/cwe=0.3")
        assert (composed["composition"], composed["merged"]) == ("alice/icd10=0.7+bob/cwe=0.3", {})
        weighed = [{"adapter": parts[0], "weight_ppm": 700_000}, {"adapter": parts[1], "weight_ppm": 300_000}]
        assert composed["adapters"] == weighed
        by_merge = await receipt_of(adapter="me/both")
        assert by_merge["composition"] == "me/both"
        words = "dare_ties of alice/icd10=0.7+bob/cwe=1.3, density 0.5, seed 7"
        assert by_merge["merged"] == {merged: words}
        assert (await receipt_of())["composition"] is None
        listed = await door.control(lambda client: client.get("/receipts"))
        assert [one["composition"] for one in listed] == [None, "me/both", "alice/icd10=0.7+bob/cwe=0.3"]
