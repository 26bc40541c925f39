"""The engine over exllamav2's own classes, on the CPU; the torch engine says what is right."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import InvalidAdapter, InvalidModel, LocalProtocolError, Refused
from commonlore.protocol.ids import cid_of
from commonlore.protocol.inference.sampler import sample
from commonlore.protocol.requests.records import ChatMessage, Sampling
from commonlore.worker.adapters.fake import write_fake_adapter
from commonlore.worker.engine.decoding import sampler
from commonlore.worker.engine.exllamav2.engine import ExLlamaV2Engine
from commonlore.worker.engine.exllamav2.fake import write_fake_artefact
from commonlore.worker.engine.exllamav2.mixed import LoraBatch, MixedLoras
from commonlore.worker.engine.exllamav2.switched import SwitchedLoras
from commonlore.worker.engine.torch_engine import TorchEngine
from commonlore.worker.engine.types import AdapterSource, EngineConfig
from commonlore.worker.models.artefacts import Artefact
from commonlore.worker.models.reference import BaseModel
from commonlore.worker.models.tiny import build_tiny

LONG = "a rather long story about the hare and the tortoise, " * 16
SAMPLED = Sampling(seed=5, max_tokens=40, temperature_ppm=PPM, top_p_ppm=950_000)
NEAR = 60_000
"""Micronats: fp16 against fp32."""


@pytest.fixture(params=["mixed", "switched"])
def either(request: pytest.FixtureRequest) -> ExLlamaV2Engine:
    return request.getfixturevalue("exl2" if request.param == "mixed" else "switching")


def requests_of(lab, adapters: list[AdapterSource], **changes: object):
    """Everything at once: the base, every adapter, a composition; short and long prompts."""
    compositions = [(), *(lab.one_adapter(source) for source in adapters), ()]
    compositions.append(
        (AdapterWeight(adapters[0].adapter, 300_000), AdapterWeight(adapters[2].adapter, 700_000))
    )
    texts = ["why? " * (1 + 40 * number) for number in range(len(compositions))]
    return [
        lab.ask(text, number, adapters=composition, **changes)
        for number, (text, composition) in enumerate(zip(texts, compositions, strict=True))
    ]


def check_same(found, expected, near: int = NEAR) -> None:
    """The same log-probabilities, as long as both say the same; and most of it is the same."""
    agreed = total = 0
    for one, other in zip(found, expected, strict=True):
        total += len(other.tokens)
        for a, b in zip(one.logprobs, other.logprobs, strict=True):
            assert abs(a.top[0].micro_nats - b.top[0].micro_nats) < near
            if a.chosen.token != b.chosen.token:
                break
            agreed += 1
    assert agreed > 0.8 * total


# ---- right answers


def test_every_row_is_what_the_torch_engine_says(
    lab, either: ExLlamaV2Engine, engine: TorchEngine, adapters: list[AdapterSource]
) -> None:
    asked = requests_of(lab, adapters, top_logprobs=2)
    check_same(lab.run(either, *asked), lab.run(engine, *asked))


def test_an_unquantised_artefact_too(
    lab, build_exl2, engine: TorchEngine, tiny: BaseModel, adapters: list[AdapterSource], tmp_path: Path
) -> None:
    plain = build_exl2(artefact_dir=str(write_fake_artefact(tiny, tmp_path, quantised=False).directory))
    asked = requests_of(lab, adapters, top_logprobs=2)
    check_same(lab.run(plain, *asked), lab.run(engine, *asked))


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "qwen3"},
        {"model_type": "qwen2", "tie_word_embeddings": True},
        {"model_type": "mistral", "sliding_window": 1024, "num_key_value_heads": 4},
        {
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ],
    ids=["qwen3", "qwen2", "mistral", "llama3"],
)
def test_the_families_agree_with_the_torch_engine(
    lab, library, build_exl2, changes: dict[str, object], tmp_path: Path
) -> None:
    base = build_tiny(tmp_path, changes=changes)
    artefact = write_fake_artefact(base, tmp_path)
    source = write_fake_adapter(tmp_path / "one.safetensors", base.architecture, 8)
    config = EngineConfig(str(base.directory), "fp32", pages=256, artefact_dir=str(artefact.directory))
    both = TorchEngine(config), ExLlamaV2Engine(config, library)
    for each in both:
        each.load_adapter(source)
    asked = [
        lab.ask("why? " * 60, 1, top_logprobs=2),
        lab.ask("why? " * 60, 2, top_logprobs=2, adapters=lab.one_adapter(source)),
    ]
    expected, found = (lab.run(each, *asked) for each in both)
    check_same(found, expected)


def test_adapters_change_what_is_said(lab, either: ExLlamaV2Engine, adapters: list[AdapterSource]) -> None:
    said = lab.run(
        either,
        lab.ask("go on"),
        *(lab.ask("go on", 2 + n, adapters=lab.one_adapter(a)) for n, a in enumerate(adapters)),
    )
    assert len({tuple(one.tokens) for one in said}) == len(said)


def test_mixed_rows_are_one_batch_and_switched_ones_are_not(
    lab, exl2: ExLlamaV2Engine, switching: ExLlamaV2Engine, adapters: list[AdapterSource]
) -> None:
    asked = [lab.ask("hi", 1 + n, adapters=lab.one_adapter(adapters[n])) for n in range(3)]
    steps = []
    for each in (exl2, switching):
        before = each.stats().steps
        lab.run(each, *asked)
        steps.append(each.stats().steps - before)
    assert steps[0] < 24 + 2 * 3
    assert steps[1] >= 3 * 24


def test_blocks_are_taken_apart_only_for_adapters_that_change_them(
    lab, build_exl2, adapters: list[AdapterSource]
) -> None:
    engine = build_exl2()
    mode = engine._generator.mode
    assert isinstance(mode, MixedLoras)

    def apart_while(*sources: AdapterSource) -> tuple[bool, bool]:
        for number, source in enumerate(sources):
            engine.add(engine.prepare(lab.ask("hi", 10 + number, adapters=lab.one_adapter(source))))
        engine.add(engine.prepare(lab.ask("hi")))
        for _ in range(4):
            engine.step()
        found = mode._attention.apart, mode._mlp.apart
        for number in (1, *range(10, 10 + len(sources))):
            engine.abort(number.to_bytes(4, "big"))
        return found

    assert apart_while() == (False, False)
    assert apart_while(adapters[2]) == (True, False)
    assert apart_while(adapters[3]) == (False, True)
    assert apart_while(adapters[2], adapters[3]) == (True, True)
    assert apart_while() == (False, False)


# ---- pages


@pytest.mark.parametrize("text", ["a short question", LONG], ids=["part of a page", "pages"])
def test_no_answer_comes_from_another_adapters_pages(
    lab, build_exl2, adapters: list[AdapterSource], text: str
) -> None:
    shared = build_exl2()
    lab.run(shared, lab.ask(text, 1))
    for number, known in ((0, False), (1, False), (0, True), (1, True)):
        asked = lab.ask(text, 5, adapters=lab.one_adapter(adapters[number]), top_logprobs=2)
        (said,), (expected,) = lab.run(shared, asked), lab.run(build_exl2(), asked)
        check_same([said], [expected])
        assert (said.last.cached_tokens > 0) is known


def test_the_weight_of_an_adapter_is_part_of_its_pages(
    lab, exl2: ExLlamaV2Engine, adapters: list[AdapterSource]
) -> None:
    for weight in (PPM // 2, PPM // 4):
        weights = (weight, PPM - weight)
        composition = tuple(AdapterWeight(adapters[n].adapter, ppm) for n, ppm in enumerate(weights))
        (said,) = lab.run(exl2, lab.ask("is this weighed? " * 20, adapters=composition))
        assert said.last.cached_tokens == 0


def test_a_known_prompt_is_computed_once(lab, build_exl2, adapters: list[AdapterSource]) -> None:
    engine = build_exl2()
    asked = lab.ask(LONG, adapters=lab.one_adapter(adapters[0]), top_logprobs=2)
    (first,), (second,) = lab.run(engine, asked), lab.run(engine, asked)
    prompt = first.last.prompt_tokens
    assert first.last.cached_tokens == 0
    assert second.last.cached_tokens == prompt - 1
    check_same([second], [first])
    stats = engine.stats()
    assert stats.cached_tokens == prompt - 1
    assert stats.computed_tokens == prompt - 1 + 2 * len(first.tokens)
    assert stats.output_tokens == 2 * len(first.tokens)


def test_an_answers_pages_are_its_adapters_too(
    lab, build_exl2, adapters: list[AdapterSource], tiny: BaseModel
) -> None:
    engine = build_exl2()
    long = Sampling(seed=7, max_tokens=300)
    (said,) = lab.run(engine, lab.ask("go on", sampling=long, adapters=lab.one_adapter(adapters[0])))
    ids = tuple(tiny.tokenizer().encode_chat((ChatMessage("user", "go on"),))) + tuple(said.tokens)
    for composition, cached in (((), False), (lab.one_adapter(adapters[0]), True)):
        (again,) = lab.run(engine, lab.ask("", 2, messages=(), prompt_tokens=ids, adapters=composition))
        assert (again.last.cached_tokens >= 256) is cached


def test_a_prompt_is_computed_in_chunks_beside_running_answers(lab, exl2: ExLlamaV2Engine) -> None:
    exl2.add(exl2.prepare(lab.ask("hello", 1, sampling=Sampling(1, 200))))
    exl2.step()
    exl2.add(exl2.prepare(lab.ask(LONG, 2)))
    exl2.add(exl2.prepare(lab.ask(LONG + "and on", 3)))
    computed = []
    while not exl2.stats().output_tokens or len(computed) < 5:
        before = exl2.stats().computed_tokens
        events = exl2.step()
        assert [event for event in events if event.request_id == (1).to_bytes(4, "big")]
        computed.append(exl2.stats().computed_tokens - before)
    assert max(computed) <= 256 + 3
    for number in (1, 2, 3):
        exl2.abort(number.to_bytes(4, "big"))
    exl2.check_integrity()


# ---- requests


@pytest.mark.parametrize(
    "sampling", [Sampling(5, 40), SAMPLED, replace(SAMPLED, repetition_penalty_ppm=1_200_000)]
)
def test_a_continuation_has_the_same_text_positions_and_counts(
    lab, exl2: ExLlamaV2Engine, sampling: Sampling
) -> None:
    (whole,) = lab.run(exl2, lab.ask("go on", sampling=sampling))
    for cut in (1, 13, 39):
        delivered = tuple(whole.tokens[:cut])
        (rest,) = lab.run(exl2, lab.ask("go on", sampling=sampling, delivered=delivered))
        assert len(delivered) + len(rest.tokens) == 40
        assert rest.tokens[0] == whole.tokens[cut]
        assert rest.last.prompt_tokens == whole.last.prompt_tokens


def test_a_delivered_answer_that_is_complete_ends_at_once(lab, exl2: ExLlamaV2Engine) -> None:
    (whole,) = lab.run(exl2, lab.ask("go on"))
    (again,) = lab.run(exl2, lab.ask("go on", delivered=tuple(whole.tokens)))
    assert (again.tokens, again.last.finish) == ([], "length")


def test_the_sampler_is_the_pinned_one(lab, exl2: ExLlamaV2Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[np.ndarray, sampler.Draw, int]] = []

    def choose(logits: np.ndarray, draws: list[sampler.Draw]) -> list[int]:
        tokens = fast(logits, draws)
        seen.extend(
            (row.copy(), replace(draw, history=list(draw.history)), token)
            for row, draw, token in zip(logits, draws, tokens, strict=True)
        )
        return tokens

    fast = sampler.choose
    monkeypatch.setattr(sampler, "choose", choose)
    penalised = replace(SAMPLED, repetition_penalty_ppm=1_200_000)
    (said,) = lab.run(exl2, lab.ask("hello", sampling=penalised))
    assert [token for *_, token in seen] == said.tokens
    for position, (row, draw, token) in enumerate(seen):
        assert (draw.position, len(draw.history)) == (position, said.last.prompt_tokens + position)
        assert token == sample(row, penalised, position, draw.history)


def test_stop_strings_end_an_answer_before_themselves(lab, exl2: ExLlamaV2Engine) -> None:
    (whole,) = lab.run(exl2, lab.ask("hello there"))
    stop = whole.text[9:13]
    (said,) = lab.run(exl2, lab.ask("hello there", stop=("not in it", stop)))
    assert said.text == whole.text[: whole.text.index(stop)]
    assert said.last.finish == "stop"
    assert said.tokens == whole.tokens[: len(said.tokens)]


def test_text_is_what_the_tokens_say(lab, exl2: ExLlamaV2Engine, tiny: BaseModel) -> None:
    (said,) = lab.run(exl2, lab.ask("hello", sampling=SAMPLED))
    assert said.text == tiny.tokenizer().decode(said.tokens)


def test_max_tokens_and_context_end_an_answer(lab, build_exl2) -> None:
    small = build_exl2(pages=16)
    assert small.facts.max_context == 256
    (said,) = lab.run(small, lab.ask("hello", sampling=Sampling(1, 500)))
    assert said.last.finish == "length"
    assert said.last.prompt_tokens + len(said.tokens) == 256
    with pytest.raises(Refused, match="context is 256"):
        small.prepare(lab.ask(LONG))


def test_a_held_request_waits_and_says_the_same_in_the_end(lab, either: ExLlamaV2Engine) -> None:
    (expected,) = lab.run(either, lab.ask("hello"))
    asked = lab.ask("hello")
    either.add(either.prepare(asked))
    tokens: list[int] = []
    while len(tokens) < 5:
        tokens += [token for event in either.step() for token in event.tokens]
    either.hold(asked.request_id, True)
    assert either.step() == []
    assert not either.has_work()
    assert either.stats().held == 1
    either.hold(asked.request_id, False)
    while either.has_work():
        tokens += [token for event in either.step() for token in event.tokens]
    assert tokens == expected.tokens
    either.check_integrity()


def test_a_held_request_gives_way_to_another_adapter_and_comes_back(
    lab, switching: ExLlamaV2Engine, adapters: list[AdapterSource]
) -> None:
    held, other = (lab.ask("hello", n, adapters=lab.one_adapter(adapters[n])) for n in (0, 1))
    expected = [lab.run(switching, one)[0].tokens for one in (held, other)]
    switching.add(switching.prepare(held))
    tokens: list[int] = []
    while len(tokens) < 5:
        tokens += [token for event in switching.step() for token in event.tokens]
    switching.hold(held.request_id, True)
    beside = [token for event in switching.generate([other]) for token in event.tokens]
    assert beside == expected[1]
    switching.check_integrity()
    assert switching.stats().preemptions == 1
    switching.hold(held.request_id, False)
    while switching.has_work():
        tokens += [token for event in switching.step() for token in event.tokens]
    assert tokens == expected[0]
    switching.check_integrity()


def test_more_adapters_than_slots_take_turns(lab, build_exl2, adapters: list[AdapterSource]) -> None:
    tight, roomy = build_exl2(slots=2), build_exl2()
    asked = [
        lab.ask("why? " * 3, n, adapters=lab.one_adapter(adapters[n % 5]), top_logprobs=2) for n in range(10)
    ]
    check_same(lab.run(tight, *asked), lab.run(roomy, *asked))
    assert tight.stats().slot_evictions >= 3
    assert len([one for one in tight.stats().resident if one.in_slot]) == 2
    weights = zip(adapters, (PPM // 2, PPM // 4, PPM // 4), strict=False)
    composition = tuple(AdapterWeight(one.adapter, ppm) for one, ppm in weights)
    with pytest.raises(Refused, match="has 2 slots"):
        tight.add(tight.prepare(lab.ask("hi", adapters=composition)))


def test_aborting_and_deadlines_leave_nothing_behind(lab, either: ExLlamaV2Engine) -> None:
    for number in range(3):
        either.add(either.prepare(lab.ask(LONG, number)))
        either.step()
    either.abort((0).to_bytes(4, "big"))
    either.abort((2).to_bytes(4, "big"))
    either.abort(b"unknown")
    late = replace(either.prepare(lab.ask("hello", 9)), deadline=time.monotonic() - 1)
    either.add(late)
    assert either.seconds_to_deadline() < 0
    events = []
    while either.has_work():
        events += either.step()
    finishes = {event.request_id: event.finish for event in events if event.finish}
    assert finishes == {(1).to_bytes(4, "big"): "length", (9).to_bytes(4, "big"): "deadline"}
    either.check_integrity()
    assert either.stats().free_pages == either.facts.pages


def test_a_deadline_passes_while_it_is_held(lab, exl2: ExLlamaV2Engine) -> None:
    prepared = replace(exl2.prepare(lab.ask("hello")), deadline=time.monotonic() + 3600)
    exl2.add(prepared)
    exl2.step()
    exl2.hold(prepared.request.request_id, True)
    exl2.step()
    assert not exl2.has_work()
    exl2._requests[prepared.request.request_id].prepared = replace(prepared, deadline=time.monotonic())
    assert exl2.has_work()
    (event,) = exl2.step()
    assert event.finish == "deadline"
    exl2.check_integrity()


def test_what_is_too_much_or_unknown_is_refused(lab, build_exl2) -> None:
    engine = build_exl2(max_queue=1, max_batch=1)
    engine.add(engine.prepare(lab.ask("one", 1)))
    with pytest.raises(LocalProtocolError, match="already running"):
        engine.add(engine.prepare(lab.ask("one", 1)))
    with pytest.raises(Refused, match="1 requests are waiting"):
        engine.add(engine.prepare(lab.ask("two", 2)))
    stranger = (AdapterWeight(cid_of(b"nobody's"), PPM),)
    engine.step()
    with pytest.raises(Refused, match="is not loaded in this engine"):
        engine.add(engine.prepare(lab.ask("three", 3, adapters=stranger)))


# ---- adapters


def test_an_adapter_in_use_stays_and_another_may_go(lab, build_exl2, adapters: list[AdapterSource]) -> None:
    engine = build_exl2()
    asked = lab.ask("hello", adapters=lab.one_adapter(adapters[0]))
    (expected,) = lab.run(engine, asked)
    engine.add(engine.prepare(asked))
    engine.step()
    with pytest.raises(Refused, match="is in use"):
        engine.unload(adapters[0].adapter)
    engine.unload(adapters[1].adapter)
    engine.abort(asked.request_id)
    engine.unload(adapters[0].adapter)
    assert {one.adapter for one in engine.stats().resident} == {one.adapter for one in adapters[2:]}
    engine.load_adapter(adapters[0])
    assert lab.run(engine, asked)[0].tokens == expected.tokens


def test_an_adapter_above_the_rank_limit_is_refused(build_exl2, adapters: list[AdapterSource]) -> None:
    with pytest.raises(InvalidAdapter, match="this engine takes at most 4"):
        build_exl2(max_rank=4).load_adapter(adapters[0])


def test_numbers_that_are_not_finite_end_only_their_request(
    lab, build_exl2, tiny: BaseModel, tmp_path: Path
) -> None:
    engine = build_exl2()
    bad = write_fake_adapter(tmp_path / "bad.safetensors", tiny.architecture, 8, seed=99)
    loaded = engine.read_adapter(bad)
    with torch.inference_mode():
        loaded.packed.fill_(60_000)
    engine.install(loaded)
    good = lab.ask(LONG, 1)
    (expected,) = lab.run(build_exl2(), good)
    failed, said = lab.run(engine, lab.ask(LONG, 2, adapters=lab.one_adapter(bad)), good)
    assert failed.last.finish == "error"
    assert "not finite" in failed.last.error
    assert bad.adapter in failed.last.error
    assert said.tokens == expected.tokens
    assert all(bool(torch.isfinite(tensor).all()) for tensor in engine._generator.cache.all_tensors())
    assert engine.stats().free_pages == engine.facts.pages
    assert lab.run(engine, good)[0].tokens == expected.tokens


# ---- what is served


def test_facts_are_the_artefacts(exl2: ExLlamaV2Engine, tiny: BaseModel, artefact: Artefact) -> None:
    facts = exl2.facts
    assert (facts.base, facts.artefact) == (tiny.id, artefact.id)
    assert (facts.precision, facts.backend) == ("exl2-fake", "exllamav2")
    assert (facts.pages, facts.page_size, facts.max_context) == (32, 256, 2048)
    assert facts.packed_bytes(8) == exl2._layout.size(8) * 2


def test_an_artefact_of_another_base_is_refused(build_exl2, library, tmp_path: Path) -> None:
    other = write_fake_artefact(build_tiny(tmp_path, seed=3), tmp_path)
    with pytest.raises(InvalidModel, match="not of"):
        build_exl2(artefact_dir=str(other.directory))


def test_weights_that_do_not_fit_the_base_are_invalid(
    build_exl2, library, tiny: BaseModel, tmp_path: Path
) -> None:
    artefact = write_fake_artefact(tiny, tmp_path)
    (artefact.directory / "output.safetensors").write_bytes((8).to_bytes(8, "little") + b"{}      ")
    with pytest.raises(InvalidModel, match="exllamav2 cannot load"):
        build_exl2(artefact_dir=str(artefact.directory))


def test_where_mixing_gives_other_numbers_the_engine_switches_instead(
    lab, build_exl2, engine: TorchEngine, adapters: list[AdapterSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(_self: LoraBatch, _key: str, _x: torch.Tensor, out: torch.Tensor) -> None:
        out.zero_()

    with monkeypatch.context() as patched:
        patched.setattr(LoraBatch, "add", wrong)
        fallen_back = build_exl2()
    assert isinstance(fallen_back._generator.mode, SwitchedLoras)
    asked = requests_of(lab, adapters, top_logprobs=2)
    check_same(lab.run(fallen_back, *asked), lab.run(engine, *asked))


def test_where_mixing_fails_the_engine_switches_instead(build_exl2, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_arguments: object) -> None:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(LoraBatch, "add", fails)
    assert isinstance(build_exl2()._generator.mode, SwitchedLoras)
