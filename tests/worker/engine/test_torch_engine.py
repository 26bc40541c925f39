from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import (
    InvalidAdapter,
    InvalidModel,
    LocalProtocolError,
    Refused,
    RemoteProtocolError,
)
from commonlore.protocol.requests.records import ChatMessage, Sampling
from commonlore.worker.adapters.fake import write_fake_adapter
from commonlore.worker.engine.torch_engine import TorchEngine
from commonlore.worker.engine.types import AdapterSource, EngineConfig
from commonlore.worker.models.reference import BaseModel

LONG = "a rather long story about the hare and the tortoise, " * 8
SAMPLED = Sampling(seed=5, max_tokens=40, temperature_ppm=PPM, top_p_ppm=950_000)


def prompts(count: int) -> list[str]:
    return [f"question {n}: " + "why? " * (3 * n) for n in range(count)]


# ---- answers


def test_greedy_answers_do_not_depend_on_the_company(
    lab, engine: TorchEngine, adapters: list[AdapterSource]
) -> None:
    requests = [lab.ask(text, n) for n, text in enumerate(prompts(5))]
    requests += [
        lab.ask(text, 10 + n, adapters=lab.one_adapter(adapters[n])) for n, text in enumerate(prompts(5))
    ]
    alone = [lab.run(engine, request)[0].tokens for request in requests]
    assert [said.tokens for said in lab.run(engine, *requests)] == alone
    assert [said.tokens for said in lab.run(engine, *reversed(requests))] == alone[::-1]


def test_sampled_answers_do_not_depend_on_the_company(
    lab, engine: TorchEngine, adapters: list[AdapterSource]
) -> None:
    requests = [lab.ask(text, n, sampling=replace(SAMPLED, seed=n)) for n, text in enumerate(prompts(6))]
    alone = [lab.run(engine, request)[0].tokens for request in requests]
    assert [said.tokens for said in lab.run(engine, *requests)] == alone
    assert len({tuple(tokens) for tokens in alone}) == 6


@pytest.mark.parametrize(
    "sampling", [Sampling(5, 40), SAMPLED, replace(SAMPLED, repetition_penalty_ppm=1_200_000)]
)
@pytest.mark.parametrize("with_adapter", [False, True])
def test_a_continuation_says_what_the_uninterrupted_answer_says(
    lab, engine: TorchEngine, adapters: list[AdapterSource], sampling: Sampling, with_adapter: bool
) -> None:
    chosen = lab.one_adapter(adapters[0]) if with_adapter else ()
    whole = lab.run(engine, lab.ask("go on", sampling=sampling, adapters=chosen))[0]
    text_so_far = ""
    for event, cut in zip(whole.events, range(1, 40), strict=False):
        text_so_far += event.text
        if cut % 7:
            continue
        request = lab.ask("go on", sampling=sampling, adapters=chosen, delivered=tuple(whole.tokens[:cut]))
        rest = lab.run(engine, request)[0]
        assert whole.tokens[:cut] + rest.tokens == whole.tokens
        assert text_so_far + rest.text == whole.text
        assert rest.last.prompt_tokens == whole.last.prompt_tokens


def test_a_delivered_answer_that_is_complete_ends_at_once(lab, engine: TorchEngine) -> None:
    whole = lab.run(engine, lab.ask("go on"))[0]
    again = lab.run(engine, lab.ask("go on", delivered=tuple(whole.tokens)))[0]
    assert (again.tokens, again.last.finish) == ([], "length")


def test_max_tokens_and_context_end_an_answer(lab, engine: TorchEngine, build_engine) -> None:
    assert lab.run(engine, lab.ask("hello"))[0].last.finish == "length"
    small = build_engine(pages=5)
    said = lab.run(small, lab.ask("hello", sampling=Sampling(1, 500)))[0]
    assert said.last.finish == "length"
    assert said.last.prompt_tokens + len(said.tokens) == small.facts.max_context == 64


def test_the_end_token_ends_an_answer_and_is_counted(lab, engine: TorchEngine) -> None:
    for seed in range(400):  # a special token has about one chance in a thousand at this temperature
        said = lab.run(engine, lab.ask("hi", sampling=Sampling(seed, 60, temperature_ppm=3 * PPM)))[0]
        if said.last.finish == "stop":
            assert said.tokens[-1] == 2
            assert 2 not in said.tokens[:-1]
            return
    pytest.fail("no answer ended")


def test_stop_strings_end_an_answer_before_themselves(lab, engine: TorchEngine) -> None:
    whole = lab.run(engine, lab.ask("hello there"))[0]
    stop = whole.text[9:13]
    said = lab.run(engine, lab.ask("hello there", stop=("not in it", stop)))[0]
    assert said.text == whole.text[: whole.text.index(stop)]
    assert said.last.finish == "stop"
    assert said.tokens == whole.tokens[: len(said.tokens)]


def test_text_is_what_the_tokens_say(lab, engine: TorchEngine, tiny: BaseModel) -> None:
    said = lab.run(engine, lab.ask("hello", sampling=SAMPLED))[0]
    assert said.text == tiny.tokenizer().decode(said.tokens)


def test_messages_and_their_tokens_are_the_same_prompt(lab, engine: TorchEngine, tiny: BaseModel) -> None:
    messages = (ChatMessage("system", "be brief"), ChatMessage("user", "hi"))
    ids = tuple(tiny.tokenizer().encode_chat(messages))
    by_tokens = lab.ask("", messages=(), prompt_tokens=ids)
    assert lab.run(engine, lab.ask("", messages=messages))[0].tokens == lab.run(engine, by_tokens)[0].tokens
    assert engine.count_tokens(messages) == len(ids)


# ---- the cache


def test_the_prefix_cache_changes_nothing_but_the_work(lab, build_engine) -> None:
    cold, warm = build_engine(), build_engine()
    first = lab.run(warm, lab.ask(LONG + "one"))[0]
    assert first.last.cached_tokens == 0
    second, expected = lab.run(warm, lab.ask(LONG + "two"))[0], lab.run(cold, lab.ask(LONG + "two"))[0]
    assert second.tokens == expected.tokens
    assert second.last.cached_tokens > 100
    assert warm.stats().computed_tokens < 2 * cold.stats().computed_tokens - 100


def test_two_adapters_never_share_pages(lab, build_engine, adapters: list[AdapterSource]) -> None:
    engine, fresh = build_engine(), build_engine()
    for one in (engine, fresh):
        for source in adapters[:2]:
            one.load_adapter(source)
    half = (AdapterWeight(adapters[0].adapter, PPM // 2), AdapterWeight(adapters[1].adapter, PPM // 2))
    for chosen in ((), lab.one_adapter(adapters[0]), lab.one_adapter(adapters[1]), half):
        said = lab.run(engine, lab.ask(LONG, adapters=chosen))[0]
        assert said.last.cached_tokens == 0
        assert lab.run(engine, lab.ask(LONG, adapters=chosen))[0].last.cached_tokens > 100
        fresh_said = lab.run(fresh, lab.ask(LONG, adapters=chosen, sampling=Sampling(0, 24)))[0]
        assert said.tokens == fresh_said.tokens


def test_preempted_answers_are_the_same_answers(lab, build_engine) -> None:
    roomy, tight = build_engine(), build_engine(pages=24)
    requests = [
        lab.ask(text, n, sampling=replace(SAMPLED, max_tokens=80)) for n, text in enumerate(prompts(5))
    ]
    assert [s.tokens for s in lab.run(tight, *requests)] == [s.tokens for s in lab.run(roomy, *requests)]
    assert tight.stats().preemptions > 0
    assert tight.stats().free_pages == 23


def test_long_prompts_in_small_steps_are_the_same_answers(lab, build_engine) -> None:
    large, small = build_engine(), build_engine(max_step_tokens=24)
    requests = [lab.ask(LONG, 1), lab.ask("short", 2), lab.ask(LONG + "more", 3)]
    assert [s.tokens for s in lab.run(small, *requests)] == [s.tokens for s in lab.run(large, *requests)]


# ---- coming and going


def test_an_aborted_request_leaves_nothing_behind(lab, engine: TorchEngine) -> None:
    before = engine.stats().free_pages
    engine.add(engine.prepare(lab.ask(LONG, 1)))
    engine.add(engine.prepare(lab.ask("neighbour", 2)))
    engine.step()
    engine.abort(lab.ask(LONG, 1).request_id)
    engine.abort(b"unknown")
    rest = [event for event in finish(engine) if event.finish]
    assert [event.request_id for event in rest] == [lab.ask("", 2).request_id]
    assert engine.stats().free_pages == before
    engine.check_integrity()


def finish(engine: TorchEngine) -> list:
    events = []
    while engine.has_work():
        events += engine.step()
    return events


@pytest.mark.parametrize("pages", [1024, 8])  # its pages stay, or the other needs them
def test_a_held_request_leaves_its_place_and_slot_and_says_the_same_in_the_end(
    lab, build_engine, adapters: list[AdapterSource], pages: int
) -> None:
    engine = build_engine(max_batch=1, slots=1, pages=pages)
    request, other = (lab.ask(LONG[:60], n, adapters=lab.one_adapter(adapters[n])) for n in (0, 1))
    for source in adapters[:2]:
        engine.load_adapter(source)
    expected = [said.tokens for said in lab.run(engine, request, other)]
    for one in (request, other):
        engine.add(engine.prepare(one))
    events = [event for _ in range(9) for event in engine.step()]
    engine.hold(request.request_id, True)
    events += finish(engine)
    assert engine.stats().held == 1
    engine.check_integrity()
    events += [event for _ in range(2) for event in engine.step()]  # nothing to do
    engine.hold(request.request_id, False)
    events += finish(engine)
    engine.check_integrity()
    said = {
        one: [t for e in events if e.request_id == one for t in e.tokens]
        for one in (b"\0\0\0\0", b"\0\0\0\1")
    }
    assert list(said.values()) == expected
    assert engine.stats().preemptions == (pages == 8)


def test_a_held_request_still_meets_its_deadline(lab, engine: TorchEngine) -> None:
    request = lab.ask("x", 1, deadline_ms=30)
    engine.add(engine.prepare(request))
    engine.hold(request.request_id, True)
    events = []
    while not events or events[-1].finish is None:
        events += engine.step()
    assert events[-1].finish == "deadline"
    assert engine.seconds_to_deadline() is None


def test_a_deadline_ends_a_request(lab, engine: TorchEngine) -> None:
    said = lab.run(engine, lab.ask(LONG, deadline_ms=0), lab.ask("neighbour", 2))
    assert [one.last.finish for one in said] == ["deadline", "length"]


def test_what_is_too_much_is_refused(lab, build_engine) -> None:
    engine = build_engine(pages=5, max_queue=1)
    with pytest.raises(Refused, match="context is 64") as refused:
        engine.prepare(lab.ask(LONG))
    assert (refused.value.code, refused.value.retryable) == ("too_long", False)
    engine.add(engine.prepare(lab.ask("one", 1)))
    with pytest.raises(LocalProtocolError, match="already running"):
        engine.add(engine.prepare(lab.ask("one", 1)))
    with pytest.raises(Refused, match="waiting already") as refused:
        engine.add(engine.prepare(lab.ask("two", 2)))
    assert refused.value.code == "busy"


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"messages": ()}, "either messages or prompt tokens"),
        ({"prompt_tokens": (1,)}, "either messages or prompt tokens"),
        ({"messages": (), "prompt_tokens": (5, 9999)}, "vocabulary"),
        ({"top_logprobs": 21}, "top_logprobs is 21"),
        ({"delivered": (5,) * 25}, "delivered"),
        ({"sampling": Sampling(1, 0)}, "max_tokens"),
    ],
)
def test_malformed_requests_are_named(lab, engine: TorchEngine, changes: dict, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        engine.prepare(lab.ask("x", **changes))


def test_a_base_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match="not an imported base"):
        TorchEngine(EngineConfig(str(tmp_path)))


# ---- adapters


def test_an_adapter_must_be_loaded_and_is_kept_while_used(
    lab, build_engine, adapters: list[AdapterSource]
) -> None:
    engine = build_engine(adapter_ram=build_engine().facts.packed_bytes(8))
    request = lab.ask("x", adapters=lab.one_adapter(adapters[0]))
    with pytest.raises(Refused, match="not loaded"):
        engine.add(engine.prepare(request))
    engine.load_adapter(adapters[0])
    engine.load_adapter(adapters[0])
    engine.add(engine.prepare(request))
    with pytest.raises(Refused, match="does not fit"):
        engine.load_adapter(adapters[1])
    with pytest.raises(Refused, match="in use"):
        engine.unload(adapters[0].adapter)
    finish(engine)
    engine.load_adapter(adapters[1])  # the first gives way
    assert [(one.adapter, one.rank) for one in engine.stats().resident] == [(adapters[1].adapter, 4)]


def test_an_adapter_above_the_rank_limit_is_refused(build_engine, adapters: list[AdapterSource]) -> None:
    with pytest.raises(InvalidAdapter, match="rank 8; this engine takes at most 4"):
        build_engine(max_rank=4).load_adapter(adapters[0])


def test_an_adapter_that_overflows_fails_only_its_own_requests(
    lab, build_engine, tiny: BaseModel, tmp_path: Path
) -> None:
    engine = build_engine(pages=40)
    bad = write_fake_adapter(tmp_path / "bad", tiny.architecture, seed=66)
    loaded = engine.read_adapter(bad)
    with torch.inference_mode():
        loaded.packed.fill_(float("inf"))
    engine.install(loaded)
    expected = lab.run(build_engine(), lab.ask(LONG, 1), lab.ask("short", 2))
    for _ in range(3):  # the pages of the failed ones are used again
        said = lab.run(
            engine,
            lab.ask(LONG, 1),
            lab.ask(LONG, 3, adapters=lab.one_adapter(bad)),
            lab.ask("short", 2),
            lab.ask(LONG, 4, adapters=lab.one_adapter(bad)),
        )
        assert [one.last.finish for one in said] == ["length", "error", "length", "error"]
        assert bad.adapter in said[1].last.error
        assert [said[0].tokens, said[2].tokens] == [one.tokens for one in expected]


def test_events_carry_the_logprobs_asked_for(lab, engine: TorchEngine) -> None:
    said = lab.run(engine, lab.ask("hello", top_logprobs=3))[0]
    entries = [entry for event in said.events for entry in event.logprobs]
    assert [entry.chosen.token for entry in entries] == said.tokens
    assert all(entry.top[0] == entry.chosen and len(entry.top) == 3 for entry in entries)
