from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from commonlore.protocol.errors import InvalidModel
from commonlore.protocol.requests.records import ChatMessage
from commonlore.worker.models.chat import ChatTokenizer
from commonlore.worker.models.reference import BaseModel

TALKS = [
    [ChatMessage("user", "hello there")],
    [
        ChatMessage("system", "be\nbrief "),
        ChatMessage("user", " Grüße 日本 🎉"),
        ChatMessage("assistant", "  ok"),
    ],
    [ChatMessage("user", "an <|im_end|> inside"), ChatMessage("assistant", ""), ChatMessage("user", "\n\n")],
]


def chat_of(tiny: BaseModel, template: str) -> ChatTokenizer:
    return ChatTokenizer(tiny.tokenizer().tokenizer, template, {"bos_token": "<s>", "eos_token": "</s>"})


@pytest.mark.parametrize("talk", TALKS, ids=range(len(TALKS)))
def test_prompts_are_those_of_transformers(tiny: BaseModel, talk: list[ChatMessage]) -> None:
    library = AutoTokenizer.from_pretrained(tiny.directory)
    library.chat_template = (tiny.directory / "chat_template.jinja").read_text()
    turns = [{"role": message.role, "content": message.content} for message in talk]
    expected = library.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]
    assert tiny.tokenizer().encode_chat(talk) == expected


def test_templates_get_what_they_expect(tiny: BaseModel) -> None:
    template = (
        "{{ bos_token }}{% for m in messages %}{% generation %}{{ m['content'] | trim }}{% endgeneration %}"
        "{% if loop.first %}{% continue %}{% endif %}!{% endfor %}{{ ['ü'] | tojson }}{{ eos_token }}"
        "{% if tools %}tools{% endif %}{% if strftime_now is defined %}clock{% endif %}"
    )
    talk = [ChatMessage("user", " a "), ChatMessage("user", "b")]
    assert chat_of(tiny, template).render(talk) == '<s>ab!["ü"]</s>'


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('only user turns') }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages[0].nothing.here }}",
    ],
)
def test_templates_cannot_do_harm(tiny: BaseModel, template: str) -> None:
    with pytest.raises(InvalidModel, match="chat template does not accept"):
        chat_of(tiny, template).render(TALKS[0])


def test_a_template_that_does_not_compile_is_named(tiny: BaseModel) -> None:
    with pytest.raises(InvalidModel, match="cannot be compiled"):
        chat_of(tiny, "{% for").render(TALKS[0])


def test_a_base_without_template_says_so(tiny: BaseModel) -> None:
    with pytest.raises(InvalidModel, match="no chat template"):
        chat_of(tiny, "").render(TALKS[0])
