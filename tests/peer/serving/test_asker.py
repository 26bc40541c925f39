"""An ask ends in its own error, whatever goes wrong: never in the node's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trio

from commonlore.contracts.staging.cast import MANIFEST
from commonlore.peer.asking.answers import AskOptions, Delta
from commonlore.peer.asking.asker import Asker
from commonlore.peer.clock import ChainClock
from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.content.manifests import AdapterManifest, Split
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import (
    ChainError,
    CommonloreError,
    ConfigError,
    NotFound,
    Refused,
    Unreachable,
)
from commonlore.protocol.ids import Cid, cid_of
from commonlore.protocol.inference.messages import TokenChunk
from commonlore.protocol.receipts.credits import compute_shares
from commonlore.protocol.requests.records import ChatMessage, Sampling
from commonlore.scheduler.core import Scheduler, SchedulerConfig
from commonlore.scheduler.events import Judged

BASE, BF16, INT4 = cid_of(b"base"), cid_of(b"bf16"), cid_of(b"int4")


async def read(asker: Asker, options: AskOptions) -> Any:
    async with asker.ask(options) as answer:
        await answer.read()
        return answer.transcript


async def test_errors_of_this_peer_end_the_ask_and_not_the_node(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("commonlore.peer.hearsay.MOMENT_S", 0.1)
    async with pair() as p, trio.open_nursery() as nursery:
        asker = p.asker(nursery)
        unknown = ((cid_of(b"an adapter that nobody has"), PPM),)
        with pytest.raises(NotFound, match="nobody has"):
            await read(asker, p.options(base=p.offer.ad.base, adapters=unknown))

        async def broken(*_: Any) -> None:
            raise ValueError("a defect")

        with monkeypatch.context() as patched:
            patched.setattr("commonlore.peer.asking.attempt.Attempt.run", broken)
            with pytest.raises(CommonloreError, match="failed inside this peer"):
                await read(asker, p.options())
        script = await read(asker, p.options())
        assert (script.finish, len(script.tokens)) == ("length", 6)
        nursery.cancel_scope.cancel()


async def test_an_answer_whose_receipts_stand_their_check_brings_trust_back(pair: Any) -> None:
    async with pair() as p, trio.open_nursery() as nursery:
        scheduler = Scheduler(SchedulerConfig(), 7)
        asker = Asker(scheduler, p.parts, p.parts.catalog, nursery)
        p.see(asker, p.offer.ad, 0)
        now_ms = p.parts.clock.now_ms()
        scheduler.step(now_ms, Judged(p.offer.peer, passed=False))
        before = scheduler.standing(p.offer.peer).trust_ppm(now_ms)
        await read(asker, p.options())
        assert scheduler.standing(p.offer.peer).trust_ppm(now_ms) > before + 50_000
        nursery.cancel_scope.cancel()


async def test_a_manifest_that_nobody_had_a_moment_ago_is_looked_for_again(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a client that has met only the peer that it started from."""
    async with pair() as p, trio.open_nursery() as nursery:
        adapter = p.publish(adapter_manifest("late", BASE, DEFAULT_SPLIT))
        real, tries = p.parts.catalog.adapter, 0

        async def adapter_of(cid: Cid) -> AdapterManifest:
            nonlocal tries
            tries += 1
            if tries < 3:
                raise NotFound("no provider has it")
            return await real(cid)

        monkeypatch.setattr(p.parts.catalog, "adapter", adapter_of)
        asker = p.asker(nursery)
        assert (await read(asker, p.options(adapters=((adapter, PPM),)))).finish == "length"
        nursery.cancel_scope.cancel()


async def test_nobody_pays_whatever_a_worker_asks(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("commonlore.peer.asking.ask_run.NEWCOMER_PATIENCE_S", 0.2)
    async with pair() as p, trio.open_nursery() as nursery:
        asker = p.asker(nursery)
        object.__setattr__(p.parts, "max_price", 150)
        with pytest.raises(CommonloreError, match="raise the limit of 150"):
            await read(asker, p.options())
        script = await read(asker, p.options(max_price=10**9))
        assert script.price == 167
        nursery.cancel_scope.cancel()


async def test_an_ask_holds_no_more_credit_than_it_can_cost(pair: Any) -> None:
    """A generous limit is the caller's, and no reason to refuse an ask that costs little."""
    async with pair(credit=2_000) as p, trio.open_nursery() as nursery:
        asker = p.asker(nursery)
        assert (await read(asker, p.options(max_price=10**9))).price == 167
        dear = p.options(
            messages=(ChatMessage("user", "x" * 5_000),), sampling=Sampling(seed=1, max_tokens=9)
        )
        with pytest.raises((Refused, CommonloreError), match="deposit"):
            await read(asker, dear)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ((700_000, 700_000), "cannot answer together: adapter weights add up to 1400000 ppm"),
        ((0, PPM), "cannot answer together: an adapter of weight 0"),
    ],
)
async def test_weights_that_no_worker_may_be_asked_with(pair: Any, weights: Any, says: str) -> None:
    """Told before anybody is asked: it is not a worker's fault."""
    async with pair() as p, trio.open_nursery() as nursery:
        asker = p.asker(nursery)
        adapters = tuple((cid_of(bytes([n])), ppm) for n, ppm in enumerate(weights))
        with pytest.raises(ConfigError, match=says):
            await read(asker, p.options(adapters=adapters))
        nursery.cancel_scope.cancel()


async def test_a_composition_stands_on_its_receipt_and_pays_the_heaviest_s_split(pair: Any) -> None:
    async with pair() as p, trio.open_nursery() as nursery:
        asker = p.asker(nursery)
        light = p.publish(adapter_manifest("light", BASE, Split(500, 8500, 0, 1000, 0)))
        heavy = p.publish(adapter_manifest("heavy", BASE, DEFAULT_SPLIT))
        script = await read(asker, p.options(adapters=((light, 300_000), (heavy, 700_000))))
        receipt = script.receipts[-1].receipt
        assert receipt.adapters == (AdapterWeight(light, 300_000), AdapterWeight(heavy, 700_000))
        assert receipt.shares == compute_shares(receipt.price, DEFAULT_SPLIT)
        assert set(p.engine.resident) == {light, heavy}
        elsewhere = p.publish(adapter_manifest("elsewhere", cid_of(b"another base"), DEFAULT_SPLIT))
        with pytest.raises(ConfigError, match=f"{heavy} is for base .*, {elsewhere} for"):
            await read(asker, p.options(base=BASE, adapters=((heavy, PPM // 2), (elsewhere, PPM // 2))))
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("others", "all_die", "went_on_with"),
    [
        ((INT4, BF16), False, [BF16]),  # whichever the scheduler would rather have
        ((INT4,), False, [BF16, INT4]),  # nobody else
        ((INT4, BF16), True, [BF16, INT4]),  # whoever has the same dies too
    ],
)
async def test_what_was_delivered_is_continued_on_the_same_artefact_where_there_is_one(
    pair: Any,
    monkeypatch: pytest.MonkeyPatch,
    others: tuple[Cid, ...],
    all_die: bool,
    went_on_with: list[Cid],
) -> None:
    async with pair() as p, trio.open_nursery() as nursery:
        adverts = [replace(p.offer.ad, artefact=BF16)]
        adverts += [
            replace(p.offer.ad, artefact=artefact, binding=p.bindings[n])
            for n, artefact in enumerate(others, 1)
        ]
        tried: list[Cid] = []

        async def run(self: Any, take: Any, whole: Any, _left: Any) -> None:
            """Each delivers two tokens; the first dies, or all of its artefact. Then the others are seen."""
            tried.append(self._offer.ad.artefact)
            for n, ad in enumerate(adverts):
                p.see(asker, ad, n)
            self._answer.transcript.add(TokenChunk(0, (5, 6), " x"), tried[-1])
            await take(Delta((5, 6), " x"))
            if len(tried) == 1 or (all_die and tried[-1] == BF16):
                raise Unreachable("it died")
            whole()

        monkeypatch.setattr("commonlore.peer.asking.attempt.Attempt.run", run)
        for seed in range(6):
            tried.clear()
            asker = Asker(Scheduler(SchedulerConfig(), seed), p.parts, p.parts.catalog, nursery)
            p.see(asker, adverts[0], 0)
            nursery.start_soon(asker.run)
            script = await read(asker, p.options())
            assert script.artefacts == went_on_with
            assert len(script.tokens) == 2 * len(tried)
        nursery.cancel_scope.cancel()


async def test_a_client_that_has_not_seen_its_chain_takes_the_epoch_from_the_worker(pair: Any) -> None:
    async with pair() as p, trio.open_nursery() as nursery:
        theirs, wall = ChainClock(p.parts.clock, 0, 3_600), p.parts.chain_clock.epoch()
        theirs.observe((wall + 500) * 3_600)
        object.__setattr__(p.service._parts, "chain_clock", theirs)
        ours = ChainClock(p.parts.clock, 0, 3_600)
        object.__setattr__(p.parts, "chain_clock", ours)
        script = await read(p.asker(nursery), p.options())
        assert script.receipts[-1].receipt.epoch == wall + 500
        ours.observe((wall + 900) * 3_600)
        with pytest.raises(CommonloreError, match=f"the request is for epoch {wall + 900}; it is epoch"):
            await read(p.asker(nursery), p.options(deadline_s=1))
        object.__setattr__(p.service._parts, "chain_clock", ChainClock(p.parts.clock, 3_600 * 50, 3_600))
        object.__setattr__(p.parts, "chain_clock", ChainClock(p.parts.clock, 0, 3_600))
        with pytest.raises(ChainError, match=r"has not seen its chain yet .*: the request is for epoch"):
            await read(p.asker(nursery), p.options())
        nursery.cancel_scope.cancel()


async def test_the_scheduler_learns_the_largest_rank_of_a_composition(
    pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("commonlore.peer.asking.ask_run.NEWCOMER_PATIENCE_S", 0.2)
    async with pair() as p, trio.open_nursery() as nursery:
        asker = p.asker(nursery)
        manifests = [adapter_manifest(name, BASE, DEFAULT_SPLIT) for name in ("small", "large")]
        small, large = p.publish(manifests[0]), p.publish(replace(manifests[1], rank=128))
        assert (await read(asker, p.options(adapters=((small, PPM),)))).finish == "length"
        with pytest.raises(CommonloreError, match="takes no adapter of this rank"):
            await read(asker, p.options(adapters=((small, PPM // 2), (large, PPM // 2))))
        nursery.cancel_scope.cancel()


def adapter_manifest(name: str, base: Cid, split: Split) -> AdapterManifest:
    return replace(MANIFEST, name=name, weights=cid_of(name.encode()), base=base, split=split)
