"""The official OpenAI client against a gateway node and the worker processes behind it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import openai
import pytest

from commonlore.protocol.requests.tools import ToolCall, ToolResult

ASKED: Any = [{"role": "user", "content": "what is ben number 3?"}]
WORKERS = ("worker-1", "worker-2")
ENDLESS = 1_500
"""Output tokens that no test waits for."""


@pytest.fixture
def client(town: Any, adapter: str) -> Iterator[openai.OpenAI]:
    """A client of the contributor's gateway, which knows the workers and the adapter."""
    url = f"{town.network.peers['contributor'].ready.gateway}/v1"
    http = openai.DefaultHttpxClient(verify=False)  # plain HTTP: certificates would be read for nothing
    with openai.OpenAI(
        base_url=url, api_key="none", max_retries=0, timeout=town.patience_s, http_client=http
    ) as connected:
        yield connected


def chat(client: openai.OpenAI, model: str = "tiny", **options: Any) -> Any:
    known = {"model": model, "messages": ASKED, "seed": 7, "max_tokens": 24, "temperature": 0.9}
    return client.chat.completions.create(**known | options)


def text_of(reply: Any) -> str:
    return str(reply.choices[0].message.content)


def test_the_bases_and_adapters_of_the_network_are_models(client: openai.OpenAI, adapter: str) -> None:
    models = {model.id: model.owned_by for model in client.models.list()}
    assert models.items() >= {("tiny", "commonlore"), (adapter, "cc")}
    assert client.models.retrieve(adapter).model_extra["commonlore"]["available"] is True


def test_a_chat_has_usage_and_a_receipt_that_the_gateway_keeps(
    client: openai.OpenAI, town: Any, adapter: str
) -> None:
    raw = client.chat.completions.with_raw_response.create(
        model=adapter, messages=ASKED, seed=7, max_tokens=24
    )
    reply: Any = raw.parse()
    receipt = reply.model_extra["receipt"]
    usage = reply.usage
    assert raw.headers["x-receipt-id"] == receipt["id"]
    assert receipt["verified"] is True
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 < usage.completion_tokens <= 24
    with town.control("contributor") as control:
        kept = [control.get(f"/receipts/{each}") for each in receipt["ids"]]
    assert all(one["verified"] and one["state"] not in ("issued", "abandoned") for one in kept)
    assert [one["adapters"][0]["adapter"] for one in kept] == [receipt["adapter"]] * len(kept)
    assert sum(one["price"] for one in kept) == receipt["price"]
    assert sum(credit["amount"] for one in kept for credit in one["credits"]) == receipt["price"]
    assert client.models.retrieve(adapter).model_extra["commonlore"]["id"] == receipt["adapter"]


def test_a_stream_says_the_same_and_ends_with_its_receipt(client: openai.OpenAI) -> None:
    whole = chat(client)
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    spoken = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(spoken) == text_of(whole)
    assert len(spoken) > 2  # it came as it grew
    *_, last, usage = chunks
    assert last.choices[0].finish_reason == whole.choices[0].finish_reason == "length"
    assert last.model_extra["receipt"]["verified"] is True
    assert last.model_extra["receipt"]["id"] != whole.model_extra["receipt"]["id"]
    assert (usage.choices, usage.usage) == ([], whole.usage)


def test_what_a_tool_gave_back_is_in_the_receipt_and_a_base_without_tools_says_so(
    client: openai.OpenAI, town: Any, adapter: str
) -> None:
    tools = [{"type": "function", "function": {"name": "lookup", "parameters": {"type": "object"}}}]
    with pytest.raises(openai.BadRequestError, match="this base takes no tools") as raised:
        chat(client, tools=tools)
    assert raised.value.body["type"] == "invalid_request_error"  # type: ignore[index]
    call = {"id": "c1", "type": "function", "function": {"name": "lookup", "arguments": '{"number":3}'}}
    answered = [
        *ASKED,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "ben 3 is 120"},
    ]
    receipt = chat(client, adapter, messages=answered).model_extra["receipt"]
    digest = ToolResult(2, ToolCall("lookup", '{"number":3}'), "ben 3 is 120").digest
    assert (receipt["tools"], receipt["verified"]) == (["0x" + digest.hex()], True)
    shown = town.lore("receipt", "explain", receipt["id"], "--json", home="contributor").json
    (tool,) = shown["tools"]
    assert (tool["part"], tool["name"], tool["result"]) == ("0x" + digest.hex(), "lookup", "ben 3 is 120")
    assert {part["channel"] for part in shown["contributors"]} == {"adapter"}


def test_the_seed_decides_whoever_answers(client: openai.OpenAI) -> None:
    replies = [chat(client) for _ in range(3)]
    assert len({text_of(reply) for reply in replies}) == 1
    assert text_of(chat(client, seed=8)) != text_of(replies[0])


def test_a_stop_text_ends_the_answer_before_itself(client: openai.OpenAI) -> None:
    free = text_of(chat(client))
    word = free[len(free) // 2 :][:3]
    stopped = chat(client, stop=[word])
    assert text_of(stopped) == free[: free.index(word)]
    assert stopped.choices[0].finish_reason == "stop"


def test_errors_name_what_is_wrong(client: openai.OpenAI, adapter: str) -> None:
    with pytest.raises(openai.NotFoundError, match=f"unknown model 'no/such'; known: tiny, .*{adapter}"):
        chat(client, "no/such")
    with pytest.raises(openai.BadRequestError, match="temperature"):
        chat(client, temperature=99)
    with pytest.raises(
        openai.BadRequestError, match=r"exceed every worker's context; the largest is \d+ tokens"
    ):
        chat(client, messages=[{"role": "user", "content": "why? " * 2_000}])


async def test_who_leaves_cancels_what_is_generated(
    client: openai.OpenAI, town: Any, until: Callable[..., Awaitable[None]]
) -> None:
    stream = chat(client, stream=True, max_tokens=ENDLESS)
    for chunk in stream:
        if chunk.choices[0].delta.content:
            break
    await until(lambda: load(town) == 1)
    stream.close()
    await until(lambda: load(town) == 0)
    paid = town.receipts("contributor", "client")[0]
    assert paid["output_tokens"] < ENDLESS / 2
    assert text_of(chat(client))  # and both go on


def load(town: Any) -> int:
    """Answers that the workers' engines are making."""
    engines = []
    for name in WORKERS:
        with town.control(name) as control:
            engines.append(control.get("/status")["worker"])
    return sum(engine["running"] + engine["queued"] + engine["held"] for engine in engines)
