"""What parts of a prompt did, as a worker measures and states it."""

from types import SimpleNamespace

import pytest
import trio

from commonlore.peer.attribution.attributing import Attributing
from commonlore.peer.attribution.scored_by import ScoredBy
from commonlore.peer.attribution.scoring import Scorable, Scoring
from commonlore.peer.chain import OFFLINE
from commonlore.protocol.attribution.faithfulness import UNMEASURED_METHOD
from commonlore.protocol.content.manifests import PriorWeight
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import RemoteProtocolError
from commonlore.protocol.ids import Address, cid_of, keccak256
from commonlore.protocol.receipts.seconding import DrawnSecond
from commonlore.protocol.requests.prompt_parts import show_rows, without_parts
from commonlore.protocol.requests.records import ChatMessage, Prompt
from commonlore.protocol.signing.bindings import bind
from commonlore.protocol.signing.keys import AccountKey, PeerKey
from commonlore.worker.attribution.ablation import ablated, plan_ablations
from commonlore.worker.attribution.subject import Score

ANA, BEN = Address(b"a" * 20), Address(b"b" * 20)
ROWS = [(f"row {n}", bytes([n]) * 32, ANA if n else BEN, cid_of(b"shard")) for n in range(3)]
MESSAGES, PARTS = show_rows((ChatMessage("user", "?"),), "Passages:", ROWS)
PROMPT = Prompt(bytes(32), MESSAGES, parts=PARTS)
PROMPT_PLAIN = Prompt(bytes(32), MESSAGES)


class Scorer:
    """The answer costs 9 nats, 2 less after row 1, half a nat more after row 2, 3 less with the adapter."""

    async def losses(self, adapter, prompt, seed, output):
        present = plan_ablations(len(prompt.parts), seed)
        losses = [9.0 - 2.0 * row[1] + 0.5 * row[2] for row in present]
        return [*losses, losses[0] + 3.0]


async def effects_of(prompt):
    scoring = Scoring(SimpleNamespace(), Scorer())
    return await scoring._effects(cid_of(b"adapter"), Scorable(None, bytes(32), prompt, (1, 2)))


async def test_each_part_is_stated_with_what_it_did():
    effects = await effects_of(PROMPT)
    assert effects.adapter_micro == 3_000_000
    assert [(p.payee, p.effect_micro) for p in effects.parts] == [(BEN, 0), (ANA, 2_000_000), (ANA, 0)]
    assert [part.part for part in effects.parts] == [part.part for part in PARTS]


async def test_a_prompt_without_parts_has_no_effects():
    assert await effects_of(Prompt(bytes(32), MESSAGES)) is None


def test_variants_leave_out_what_was_planned():
    assert ablated(PROMPT, bytes(32)) == [MESSAGES, *(without_parts(PROMPT, {n}) for n in range(3))]


# ---- adapters whose files come slowly, or are of no use


class Process:
    """A scoring process that has no torch; `broken` adapters cannot be loaded."""

    def __init__(self, broken):
        self.broken, self.held = broken, set()

    async def load(self, subject):
        self.held.add(subject.adapter)

    async def use_index(self, manifest, sums):
        if manifest.adapter == self.broken:
            raise RemoteProtocolError("the contributors' sums are not those that its index names")

    async def forget(self, adapter):
        self.held.discard(adapter)

    async def score(self, adapter, messages, output):
        return Score(bytes(8), None)


class Network:
    """A node: every adapter is known by its name, and all are one author's."""

    def __init__(self):
        self.keys = SimpleNamespace(peer=PeerKey.generate(keccak256(b"worker")))
        self.content = self.catalog = self

    async def put(self, data):
        return cid_of(data)

    async def adapter(self, adapter):
        payee = PriorWeight(ANA, PPM)
        return SimpleNamespace(name="a", author=b"author", early_checkpoint=adapter, priors=(payee,))

    def record_of(self, adapter, author):
        return SimpleNamespace(adapter=adapter, index=adapter, faithfulness=None)


FIRST, LATER = b"1" * 32, b"2" * 32
SLOW, BROKEN, QUICK = (cid_of(name) for name in (b"slow", b"broken", b"quick"))


def scoring_of(monkeypatch, asked):
    """A scoring whose adapter SLOW has files that never come."""

    async def fetch(node, manifest, record):
        if record.adapter == SLOW:
            asked.set()
            await trio.sleep_forever()
        held = SimpleNamespace(adapter=record.adapter, method="m")
        return ScoredBy(held, [], held, None, UNMEASURED_METHOD)

    async def standing(*_):
        return None

    monkeypatch.setattr("commonlore.peer.attribution.scoring.fetch_scored_by", fetch)
    monkeypatch.setattr("commonlore.peer.attribution.scoring.require_standing", standing)
    return Scoring(Network(), Process(BROKEN))


async def test_an_adapter_whose_files_do_not_come_keeps_no_other_from_being_scored(monkeypatch):
    asked, done = trio.Event(), list[bytes]()
    scoring = scoring_of(monkeypatch, asked)
    seconds = SimpleNamespace()
    node = SimpleNamespace(statements=SimpleNamespace(drop=done.append))
    attributing = Attributing(node, scoring, seconds)

    async def state(step, adapter):
        return await scoring.state(Scorable(adapter, step.receipt_hash, PROMPT_PLAIN, (1,)))

    monkeypatch.setattr(attributing, "_state", state)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(attributing.run)
            await attributing._queue.send((SimpleNamespace(receipt_hash=FIRST), (SLOW,)))
            await asked.wait()
            await attributing._queue.send((SimpleNamespace(receipt_hash=LATER), (QUICK,)))
            step, sealed = await attributing._to_second.receive()
            assert (step.receipt_hash, sealed.record.adapter) == (LATER, QUICK)
            assert FIRST not in done
            nursery.cancel_scope.cancel()


async def test_an_adapter_that_cannot_be_used_is_not_held(monkeypatch):
    scoring = scoring_of(monkeypatch, trio.Event())
    for _ in range(2):
        with pytest.raises(RemoteProtocolError, match="sums"):
            await scoring.state(Scorable(BROKEN, bytes(32), PROMPT_PLAIN, (1,)))
    assert (await scoring.state(Scorable(QUICK, bytes(32), PROMPT_PLAIN, (1,)))).record.adapter == QUICK
    assert scoring._scorer.held == {QUICK}


async def test_only_what_this_peer_served_is_pinned(monkeypatch):
    scoring, kept = scoring_of(monkeypatch, trio.Event()), []
    for way in ("put", "hold"):

        async def keep(data, way=way):
            kept.append(way)
            return cid_of(data)

        setattr(scoring._node, way, keep)
    answer = Scorable(QUICK, bytes(32), PROMPT_PLAIN, (1,))
    await scoring.state(answer)
    owner, key = AccountKey.from_secret(keccak256(b"owner")), AccountKey.from_secret(keccak256(b"key"))
    binding = bind(OFFLINE, owner, key, scoring._node.keys.peer, 1, 1 << 40)
    await scoring.state(answer, DrawnSecond(binding, b"", None))
    assert kept == ["put", "hold"], "anybody may have anything scored second"
