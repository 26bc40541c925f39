"""The official OpenAI client against the gateway."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import openai
import pytest
import trio

from commonlore.peer.gateway.fake import BASE, Script
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.errors import DeadlineExceeded, InsufficientEscrow, NotFound, Refused, Unreachable
from commonlore.protocol.ids import receipt_id_of
from commonlore.protocol.requests.tools import tool_results

ASKED = [{"role": "user", "content": "Which code is type 2 diabetes?"}]
KEY = "a-key-of-this-gateway"
TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]


@contextmanager
def client_of(url: str, key: str = "none") -> Iterator[openai.OpenAI]:
    http = openai.DefaultHttpxClient(verify=False)  # no TLS here: certificates cost 30 ms a client
    with openai.OpenAI(
        base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=60, http_client=http
    ) as client:
        yield client


async def using(url: str, use: Callable[[openai.OpenAI], Any], key: str = "none") -> Any:
    """What `use` makes of a client, in a thread."""

    def work() -> Any:
        with client_of(url, key) as client:
            return use(client)

    return await trio.to_thread.run_sync(work)


def chat(**options: Any) -> Callable[[openai.OpenAI], Any]:
    return lambda client: client.chat.completions.create(
        **{"model": "alice/icd10", "messages": ASKED, **options}
    )


def streamed(**options: Any) -> Callable[[openai.OpenAI], Any]:
    return lambda client: list(chat(stream=True, **options)(client))


async def test_models_are_the_served_bases_and_the_announced_adapters(opened) -> None:
    async with opened() as door:
        adapter = door.node.announce_adapter("alice/icd10")
        models = await using(door.url, lambda client: list(client.models.list()))
        assert [(model.id, model.owned_by) for model in models] == [
            ("tiny-llama", "commonlore"),
            ("alice/icd10", "alice"),
        ]
        assert models[1].model_extra["commonlore"] == {
            "kind": "adapter",
            "id": adapter,
            "base": BASE,
            "available": True,
        }
        one = await using(door.url, lambda client: client.models.retrieve("alice/icd10"))
        assert (one.id, one.model_extra["commonlore"]["id"]) == ("alice/icd10", adapter)
        with pytest.raises(openai.NotFoundError):
            await using(door.url, lambda client: client.models.retrieve("alice/other"))


@pytest.mark.parametrize("name", ["alice/icd10", "tiny-llama:alice/icd10", "id", "base:id"])
async def test_an_adapter_is_asked_by_name_id_or_beside_its_base(opened, name: str) -> None:
    async with opened() as door:
        adapter = door.node.announce_adapter("alice/icd10")
        model = {"id": adapter, "base:id": f"{BASE}:{adapter}"}.get(name, name)
        reply = await using(door.url, chat(model=model))
        assert reply.model == model
        assert door.node.asked[0].adapters == ((adapter, PPM),)
        assert reply.model_extra["receipt"]["adapter"] == adapter


@pytest.mark.parametrize(
    ("model", "weights"),
    [
        ("alice/icd10=0.7+bob/cwe=0.3", (700_000, 300_000)),
        ("tiny-llama:alice/icd10=0.000001+bob/cwe=.999999", (1, 999_999)),
        ("alice/icd10+id", (500_000, 500_000)),
    ],
)
async def test_several_adapters_answer_together_by_their_weights(opened, model: str, weights) -> None:
    async with opened() as door:
        ids = [door.node.announce_adapter(name) for name in ("alice/icd10", "bob/cwe")]
        reply = await using(door.url, chat(model=model.replace("id", ids[1]) if "+id" in model else model))
        asked = door.node.asked[0]
        assert asked.adapters == tuple(zip(ids, weights, strict=True))
        receipt = reply.model_extra["receipt"]
        assert receipt["adapters"] == [
            {"adapter": adapter, "weight_ppm": ppm} for adapter, ppm in asked.adapters
        ]
        heaviest = max(asked.adapters, key=lambda entry: entry[1])[1]
        assert dict(asked.adapters)[receipt["adapter"]] == heaviest


async def test_a_composition_is_a_model_that_can_be_retrieved(opened) -> None:
    async with opened() as door:
        ids = [door.node.announce_adapter(name) for name in ("alice/icd10", "bob/cwe")]
        name = "alice/icd10=0.25+bob/cwe=0.75"
        one = await using(door.url, lambda client: client.models.retrieve(name))
        weighed = [{"adapter": ids[0], "weight_ppm": 250_000}, {"adapter": ids[1], "weight_ppm": 750_000}]
        assert (one.id, one.model_extra["commonlore"]) == (name, {"kind": "composition", "adapters": weighed})


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("alice/icd10=0.7+bob/cwe=0.7", "add up to 1.4; they must make 1"),
        ("alice/icd10=0.7+bob/cwe", "'bob/cwe' has no weight and others have"),
        ("alice/icd10=NaN+bob/cwe=1", "the weight of 'alice/icd10' is 'NaN'; expected a positive number"),
        ("alice/icd10=-1+bob/cwe=2", "is '-1'; expected a positive number"),
        ("alice/icd10=0+bob/cwe=1", "is '0'; expected a positive number"),
        ("alice/icd10=0.5+alice/icd10=0.5", "the adapter 'alice/icd10' twice; add up its weights"),
        ("tiny-llama=0.5+bob/cwe=0.5", "'tiny-llama' is a base; only adapters answer together"),
        ("alice/icd10+" * 8 + "bob/cwe", "9 adapters at once; at most 8 go together"),
        ("alice/icd10+", "no adapter's name in ''"),
    ],
)
async def test_a_composition_that_makes_no_sense(opened, model: str, says: str) -> None:
    async with opened() as door:
        for name in ("alice/icd10", "bob/cwe"):
            door.node.announce_adapter(name)
        with pytest.raises(openai.BadRequestError) as raised:
            await using(door.url, chat(model=model))
        assert says in raised.value.body["message"]
        assert raised.value.body["param"] == "model"
        with pytest.raises(openai.NotFoundError, match="unknown model 'no/such'; known: tiny-llama, alice/"):
            await using(door.url, chat(model="alice/icd10=0.5+no/such=0.5"))
        assert door.node.asked == []


@pytest.mark.parametrize("model", ["tiny-llama", BASE])
async def test_a_base_answers_without_an_adapter(opened, model: str) -> None:
    async with opened() as door:
        reply = await using(door.url, chat(model=model))
        assert (door.node.asked[0].adapters, door.node.asked[0].base) == ((), BASE)
        assert reply.model_extra["receipt"]["adapter"] is None


async def test_an_id_that_nobody_announced_is_left_to_the_network(opened) -> None:
    async with opened() as door:
        adapter = door.node.announce_adapter("alice/icd10")
        door.node.catalog = type(door.node.catalog)(door.node.get)  # it forgets the name
        await using(door.url, chat(model=adapter))
        assert door.node.asked[0].adapters == ((adapter, PPM),)
        assert door.node.asked[0].base is None


async def test_a_chat_is_answered_whole_with_usage_and_receipt(opened) -> None:
    async with opened() as door:
        door.node.announce_adapter("alice/icd10")
        reply = await using(
            door.url,
            lambda client: client.chat.completions.with_raw_response.create(
                model="alice/icd10", messages=ASKED
            ),
        )
        body = reply.parse()
        assert body.choices[0].message.content == "It is E11.9"
        assert (body.choices[0].finish_reason, body.created) == ("stop", 1_800_000_000)
        assert (body.usage.prompt_tokens, body.usage.completion_tokens, body.usage.total_tokens) == (
            12,
            3,
            15,
        )
        kept = door.node.store.ledger.stored[0].receipt
        receipt = body.model_extra["receipt"]
        assert receipt["id"] == "0x" + receipt_id_of(kept.payer, kept.lane, kept.seq).hex()
        assert (receipt["price"], receipt["verified"]) == (kept.price, True)
        assert (receipt["worker"], receipt["ids"]) == (door.node.worker_peer, [receipt["id"]])
        assert reply.headers["x-receipt-id"] == receipt["id"]


async def test_a_chat_streams_and_ends_with_the_receipt(opened) -> None:
    async with opened() as door:
        door.node.announce_adapter("alice/icd10")
        chunks = await using(door.url, streamed(stream_options={"include_usage": True}))
        assert [chunk.choices[0].delta.content for chunk in chunks[:3]] == ["It is ", "E11", ".9"]
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[3].choices[0].finish_reason == "stop"
        assert chunks[3].model_extra["receipt"]["verified"] is True
        assert (chunks[4].choices, chunks[4].usage.total_tokens) == ([], 15)
        assert len({chunk.id for chunk in chunks}) == 1
        without = await using(door.url, streamed())
        assert [chunk.usage for chunk in without] == [None] * 4


async def test_sampling_arrives_in_the_pinned_samplers_units(opened) -> None:
    async with opened() as door:
        door.node.announce_adapter("alice/icd10")
        extensions = {"top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1}
        options = {"temperature": 0.7, "top_p": 0.9, "seed": 7, "max_tokens": 5, "extra_body": extensions}
        await using(door.url, chat(**options, stop=["\n", "END"]))
        asked = door.node.asked[0]
        sampling = asked.sampling
        assert (sampling.seed, sampling.max_tokens, sampling.temperature_ppm) == (7, 5, 700_000)
        assert (sampling.top_k, sampling.top_p_ppm, sampling.min_p_ppm) == (40, 900_000, 50_000)
        assert (sampling.repetition_penalty_ppm, asked.stop) == (1_100_000, ("\n", "END"))


async def test_openais_defaults_hold_and_an_absent_seed_is_drawn(opened) -> None:
    async with opened() as door:
        door.node.announce_adapter("alice/icd10")
        for options in ({}, {}, {"temperature": 0}, {"seed": -1, "stop": "END"}):
            await using(door.url, chat(**options))
        first, second, greedy, signed = (asked.sampling for asked in door.node.asked)
        assert (first.temperature_ppm, first.top_p_ppm) == (PPM, PPM)
        assert first.seed != second.seed
        assert (greedy.temperature_ppm, greedy.seed) == (0, 0)
        assert (signed.seed, door.node.asked[3].stop) == ((1 << 64) - 1, ("END",))


async def test_content_parts_of_type_text_are_joined(opened) -> None:
    async with opened() as door:
        door.node.announce_adapter("alice/icd10")
        parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
        messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
        await using(door.url, chat(messages=messages))
        turns = [(turn.role, turn.content) for turn in door.node.asked[0].messages]
        assert turns == [("system", "Be brief."), ("user", "one\ntwo")]


@pytest.mark.parametrize("top", [0, 2])
async def test_logprobs_call_tokens_by_id(opened, top: int) -> None:
    async with opened() as door:
        door.node.announce_adapter("alice/icd10")
        door.node.scripts.extend([Script(("a", "b"), logprobs=max(1, top))] * 2)
        options = {"logprobs": True, "top_logprobs": top}
        whole = await using(door.url, chat(**options))
        assert door.node.asked[0].top_logprobs == max(1, top)
        entries = whole.choices[0].logprobs.content
        assert [(entry.token, entry.logprob) for entry in entries] == [
            ("token_id:1", -0.25),
            ("token_id:2", -0.25),
        ]
        assert [other.logprob for other in entries[0].top_logprobs] == [-0.5, -0.75][:top]
        chunks = await using(door.url, streamed(**options))
        assert [len(chunk.choices[0].logprobs.content) for chunk in chunks[:2]] == [1, 1]


async def test_logprobs_that_a_worker_sends_in_another_number_are_left_out(opened) -> None:
    async with opened() as door:
        door.node.announce_adapter("alice/icd10")
        door.node.scripts.append(Script(("a",), logprobs=1))
        reply = await using(door.url, chat(logprobs=True, top_logprobs=5))
        assert reply.choices[0].logprobs is None


@pytest.mark.parametrize(("finish", "told"), [("stop", "stop"), ("length", "length"), ("deadline", "length")])
async def test_finish_reasons_are_openais(opened, finish: str, told: str) -> None:
    async with opened() as door:
        door.node.announce_adapter("alice/icd10")
        door.node.scripts.append(Script(finish=finish))
        reply = await using(door.url, chat())
        assert reply.choices[0].finish_reason == told


ERRORS = [
    (Refused("busy", "all workers are busy"), openai.InternalServerError, 503, "true"),
    (Refused("credit", "you owe too much"), openai.APIStatusError, 402, "true"),
    (Refused("too_long", "4,000 tokens", retryable=False), openai.BadRequestError, 400, "false"),
    (NotFound("nobody has that adapter"), openai.NotFoundError, 404, "false"),
    (DeadlineExceeded("no whole answer within 120 s"), openai.InternalServerError, 504, "false"),
    (Unreachable("no worker answers"), openai.InternalServerError, 503, "true"),
    (InsufficientEscrow("deposit first"), openai.APIStatusError, 402, "false"),
]


@pytest.mark.parametrize(("error", "kind", "status", "retry"), ERRORS)
async def test_errors_have_a_status_and_an_envelope(opened, error, kind, status: int, retry: str) -> None:
    async with opened() as door:
        door.node.announce_adapter("alice/icd10")
        for options in ({}, {"stream": True}):
            door.node.scripts.append(Script((), error=error))
            with pytest.raises(kind) as raised:
                await using(door.url, chat(**options))
            assert raised.value.status_code == status
            assert raised.value.response.headers["x-should-retry"] == retry
            assert (raised.value.body["message"], raised.value.body["code"]) == (str(error), error.code)


async def test_an_error_in_mid_stream_is_the_last_event(opened) -> None:
    async with opened() as door:
        door.node.announce_adapter("alice/icd10")
        door.node.scripts.append(Script(("It ",), error=Unreachable("the worker went away")))
        with pytest.raises(openai.APIError, match="the worker went away"):
            await using(door.url, streamed())


async def test_an_unknown_model_names_the_known_ones(opened) -> None:
    async with opened() as door:
        door.node.announce_adapter("alice/icd10")
        with pytest.raises(openai.NotFoundError, match="known: tiny-llama, alice/icd10") as raised:
            await using(door.url, chat(model="gpt-4o"))
        assert raised.value.body["code"] == "model_not_found"
        with pytest.raises(openai.NotFoundError):
            await using(door.url, chat(model=f"other:{'alice/icd10'}"))
        assert door.node.asked == []


async def test_what_is_not_supported_is_refused_by_name(opened) -> None:
    async with opened() as door:
        for options, name in (
            ({"n": 2}, "n"),
            ({"tools": TOOLS, "tool_choice": "required"}, "tool_choice"),
            ({"response_format": {"type": "json_object"}}, "response_format"),
            ({"logit_bias": {"50256": -100}}, "logit_bias"),
            ({"extra_body": {"guided_choice": ["a"]}}, "guided_choice"),
        ):
            with pytest.raises(openai.BadRequestError) as raised:
                await using(door.url, chat(**options))
            assert raised.value.body["param"] == name
            assert name in raised.value.body["message"]


async def test_tools_are_called_and_their_results_recorded(opened) -> None:
    """As a program of OpenAI's client does it: define, take the calls, answer them, ask on."""
    written = '<tool_call>{"name": "weather", "arguments": {"city": "Bern"}}</tool_call>'
    async with opened() as door:
        door.node.announce_adapter("alice/icd10")
        door.node.scripts += [Script(("I look.\n", written)), Script(("I ", written))]
        reply = (await using(door.url, chat(tools=TOOLS))).choices[0]
        assert (reply.finish_reason, reply.message.content) == ("tool_calls", "I look.")
        (called,) = reply.message.tool_calls
        assert (called.function.name, called.function.arguments) == ("weather", '{"city": "Bern"}')
        chunks = await using(door.url, streamed(tools=TOOLS))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "I "
        (streamed_call,) = chunks[-2].choices[0].delta.tool_calls
        assert (streamed_call.index, streamed_call.function.name) == (0, "weather")
        assert chunks[-1].choices[0].finish_reason == "tool_calls"
        answered = [
            *ASKED,
            reply.message.to_dict(),
            {"role": "tool", "tool_call_id": called.id, "content": "31 °C"},
        ]
        body = await using(door.url, chat(messages=answered, tools=TOOLS))
        assert body.choices[0].finish_reason == "stop"
        turns = door.node.asked[-1].messages
        assert [turn.role for turn in turns] == ["tools", "user", "assistant", "calls", "tool"]
        (given,) = tool_results(turns)
        assert (given.call.name, given.call.arguments, given.result) == (
            "weather", '{"city": "Bern"}', "31 °C",
        )  # fmt: skip


async def test_a_client_that_leaves_in_mid_stream_cancels_the_generation(opened) -> None:
    async with opened() as door:
        door.node.announce_adapter("alice/icd10")
        door.node.scripts.append(Script(("It ",), hold=True))

        def leave_after_one(client: openai.OpenAI) -> None:
            stream = client.chat.completions.create(model="alice/icd10", messages=ASKED, stream=True)
            assert next(stream).choices[0].delta.content == "It "
            stream.close()

        await using(door.url, leave_after_one)
        await door.node.left.wait()


async def test_keys_are_required_where_they_are_set(opened) -> None:
    async with opened(api_keys=(KEY, "another")) as door:
        door.node.announce_adapter("alice/icd10")
        for wrong in ("none", KEY[:-1], f"{KEY}x", "ä"):
            with pytest.raises((openai.AuthenticationError, UnicodeEncodeError)):
                await using(door.url, chat(), key=wrong)
        assert door.node.asked == []
        reply = await using(door.url, chat(), key=KEY)
        assert reply.choices[0].message.content == "It is E11.9"
        await using(door.url, chat(), key=KEY)
        await using(door.url, chat(), key="another")
        mine, again, others = (options.client for options in door.node.asked)
        assert mine == again != others, "each key has a budget of its own"
        assert KEY not in mine
