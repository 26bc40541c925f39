"""Tools through chat templates: as transformers renders them where one takes tools, refused where not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from transformers import AutoTokenizer

from commonlore.protocol.errors import Refused, RemoteProtocolError
from commonlore.protocol.requests.records import ChatMessage
from commonlore.protocol.requests.tools import CALLS, RESULT, TOOLS, ToolCall, calls_turn, tools_turn
from commonlore.worker.models.chat import ChatTokenizer
from commonlore.worker.models.reference import BaseModel

SMOL = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""SmolLM2-135M-Instruct's own."""
TAKES_TOOLS = (
    "{% if tools %}{{ 'tools:' }}{% for tool in tools %}{{ '\n' + (tool | tojson) }}{% endfor %}"
    "{{ '\n' }}{% endif %}"
    "{% for message in messages %}{% if message.role == 'tool' %}"
    "{{ '<tool_response name=' + message.name + ' id=' + message.tool_call_id + '>' }}"
    "{{ message.content + '\n' }}"
    "{% else %}{{ '[' + message.role + '] ' + message.content }}{% if message.tool_calls %}"
    "{% for call in message.tool_calls %}{{ '\n<tool_call>' + call.function.name + ' ' }}"
    "{{ (call.function.arguments | tojson) + ' ' + call.id }}{% endfor %}{% endif %}{{ '\n' }}{% endif %}"
    "{% endfor %}{{ '[assistant] ' }}"
)
DEFINITIONS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
ASKED, SAID = ChatMessage("user", "Is it warm?"), ChatMessage("assistant", "I look.")
CALLED = calls_turn([ToolCall("weather", '{"city": "Bern"}'), ToolCall("clock", "now")])
RESULTS = (ChatMessage(RESULT, "31 °C"), ChatMessage(RESULT, "12:00"))


def chat_of(tiny: BaseModel, template: str) -> ChatTokenizer:
    return ChatTokenizer(tiny.tokenizer().tokenizer, template, {})


def test_a_template_that_takes_tools_reads_as_in_transformers(tiny: BaseModel) -> None:
    talk = [ChatMessage("system", "Be brief."), tools_turn(DEFINITIONS), ASKED, SAID, CALLED, *RESULTS]
    library = AutoTokenizer.from_pretrained(tiny.directory)
    library.chat_template = TAKES_TOOLS
    ids = ("call00003", "call00004")
    functions = ({"name": "weather", "arguments": {"city": "Bern"}}, {"name": "clock", "arguments": "now"})
    calls = [
        {"id": name, "type": "function", "function": function}
        for name, function in zip(ids, functions, strict=True)
    ]
    turns: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": ASKED.content},
        {"role": "assistant", "content": "I look.", "tool_calls": calls},
        {"role": "tool", "content": "31 °C", "name": "weather", "tool_call_id": ids[0]},
        {"role": "tool", "content": "12:00", "name": "clock", "tool_call_id": ids[1]},
    ]
    expected = library.apply_chat_template(
        turns, tools=DEFINITIONS, add_generation_prompt=True, tokenize=False
    )
    assert chat_of(tiny, TAKES_TOOLS).render(talk) == expected
    assert len(ids[0]) == 9, "as Mistral's templates want it"


def test_smollm_reads_calls_and_results_as_text(tiny: BaseModel) -> None:
    rendered = chat_of(tiny, SMOL).render([ChatMessage("system", "s"), ASKED, SAID, CALLED, *RESULTS])
    called = json.dumps({"name": "weather", "arguments": {"city": "Bern"}})
    assert rendered == (
        "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nIs it warm?<|im_end|>\n"
        f"<|im_start|>assistant\nI look.\n<tool_call>\n{called}\n</tool_call>\n"
        '<tool_call>\n{"name": "clock", "arguments": "now"}\n</tool_call><|im_end|>\n'
        "<|im_start|>tool\n31 °C<|im_end|>\n<|im_start|>tool\n12:00<|im_end|>\n<|im_start|>assistant\n"
    )


def test_calls_without_words_are_a_turn_of_their_own(tiny: BaseModel) -> None:
    one = calls_turn([ToolCall("clock", "{}")])
    talk = [ASKED, one, RESULTS[0], one, RESULTS[1]]
    rendered = chat_of(tiny, TAKES_TOOLS).render(talk)
    assert rendered.count("[assistant] \n<tool_call>clock {}") == 2
    assert "name=clock id=call00002>31 °C" in rendered
    assert "name=clock id=call00004>12:00" in rendered


@pytest.mark.parametrize("template", [SMOL, "{{ 'tools' }}{{ messages[0].content }}{# tools #}"])
def test_a_base_without_a_place_for_tools_refuses_them(tiny: BaseModel, template: str) -> None:
    with pytest.raises(Refused, match="takes no tools") as raised:
        chat_of(tiny, template).render([tools_turn(DEFINITIONS), ASKED])
    assert (raised.value.code, raised.value.retryable) == ("invalid", False)


def test_a_template_that_raises_on_a_tool_s_turn_refuses_it(tiny: BaseModel) -> None:
    raises = "{% if m.role == 'tool' %}{{ raise_exception('user only') }}{% endif %}"
    strict = f"{{% for m in messages %}}{raises}{{% endfor %}}"
    with pytest.raises(Refused, match="takes no tools, or not these: user only"):
        chat_of(tiny, strict).render([ASKED, CALLED, *RESULTS])


@pytest.mark.parametrize("role", [TOOLS, CALLS])
def test_what_is_malformed_is_no_base_s_fault(tiny: BaseModel, role: str) -> None:
    with pytest.raises(RemoteProtocolError):
        chat_of(tiny, TAKES_TOOLS).render([ChatMessage(role, "no JSON"), ASKED])


@pytest.mark.parametrize("template", [SMOL, TAKES_TOOLS])
def test_arguments_that_are_no_text_once_read_stay_as_they_were_written(
    tiny: BaseModel, template: str
) -> None:
    written = '{"city": "\\ud800"}'
    called = calls_turn([ToolCall("weather", written)])
    chat = chat_of(tiny, template)
    assert chat.encode_chat([ASKED, called, RESULTS[0]])
    assert "\\ud800" in chat.render([ASKED, called, RESULTS[0]])


def test_a_template_that_stumbles_over_definitions_refuses_them(tiny: BaseModel) -> None:
    template = "{% for tool in tools or [] %}{{ 'name: ' + tool.function.name }}{% endfor %}"
    definitions = tools_turn([{"type": "function", "function": {"name": 3}}])
    with pytest.raises(Refused, match="takes no tools, or not these"):
        chat_of(tiny, template).render([definitions, ASKED])


def test_a_prompt_may_lack_a_result_where_its_effect_is_measured(tiny: BaseModel) -> None:
    rendered = chat_of(tiny, TAKES_TOOLS).render([ASKED, CALLED, RESULTS[0]])
    assert rendered.count("<tool_response") == 1
    assert chat_of(tiny, SMOL).render([ASKED, *RESULTS]).count("<|im_start|>tool") == 2
