"""What parts of a prompt did, as a worker measures and states it."""

from types import SimpleNamespace

from commonlore.peer.attribution.scoring import Scorable, Scoring
from commonlore.protocol.ids import Address, cid_of
from commonlore.protocol.requests.prompt_parts import show_rows, without_parts
from commonlore.protocol.requests.records import ChatMessage, Prompt
from commonlore.worker.attribution.ablation import ablated, plan_ablations

ANA, BEN = Address(b"a" * 20), Address(b"b" * 20)
ROWS = [(f"row {n}", bytes([n]) * 32, ANA if n else BEN, cid_of(b"shard")) for n in range(3)]
MESSAGES, PARTS = show_rows((ChatMessage("user", "?"),), "Passages:", ROWS)
PROMPT = Prompt(bytes(32), MESSAGES, parts=PARTS)


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
