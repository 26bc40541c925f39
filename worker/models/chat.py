"""From turns to token ids and back: the base's own tokenizer.json and chat template, without a model library.

Rules of this file:
- What becomes of tools, `chat_turns` says.
- A template is somebody's program: it runs in jinja's immutable sandbox, without clock or files, so that
  every peer renders the same prompt. A template that fails is the base's fault (InvalidModel), not the
  request's, unless this has tools: whoever asks writes their definitions and arguments as they like.
- The ids of a prompt are what transformers' `apply_chat_template(add_generation_prompt=True)` gives; tests
  hold this.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jinja2
from jinja2 import meta
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import Node
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from ...protocol.errors import InvalidModel, Refused
from ...protocol.inference.messages import RefusalCode
from ...protocol.requests.records import ChatMessage
from ...protocol.requests.tools import CALLS, RESULT, TOOLS
from .chat_turns import TemplateTraits, template_turns
from .reference import TEMPLATE_FILE, TOKENIZER_FILE

_FAILURES = (
    jinja2.TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What a template may end in: jinja lets through what an operator or a filter raises."""


class _Generation(Extension):
    """`{% generation %}` marks what training scores; rendering takes its body as it is."""

    tags = {"generation"}  # noqa: RUF012 - jinja's interface

    def parse(self, parser: Parser) -> list[Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTokenizer:
    """A base's tokenizer and chat template. Safe to use from several threads."""

    def __init__(self, tokenizer: Tokenizer, template: str, special_tokens: dict[str, str]) -> None:
        self.tokenizer = tokenizer
        self._template = template
        self._special_tokens = special_tokens

    @classmethod
    def load(cls, directory: Path, special_tokens: dict[str, str]) -> ChatTokenizer:
        """Read the two files of a base's directory. Raises InvalidModel."""
        try:
            tokenizer = Tokenizer.from_str((directory / TOKENIZER_FILE).read_text(encoding="utf-8"))
            template = (directory / TEMPLATE_FILE).read_text(encoding="utf-8")
        except Exception as wrong:  # tokenizers raises bare Exception
            raise InvalidModel(
                f"cannot read the tokenizer in {directory}: {wrong}; add the base again"
            ) from None
        return cls(tokenizer, template, special_tokens)

    def encode_chat(self, messages: Sequence[ChatMessage]) -> list[int]:
        """The prompt of a conversation, ready for the assistant's turn. Raises as `render`."""
        return self.encode(self.render(messages))

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, special tokens in it recognised, none added."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special tokens left out."""
        return self.tokenizer.decode(list(tokens), skip_special_tokens=True)

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """The conversation as the model was taught to read it. Raises InvalidModel, Refused(invalid) where it
        has tools that the template does not take.
        """
        compiled = self._compiled
        told = template_turns(messages, self._traits)
        try:
            return compiled.render(
                messages=told.messages,
                add_generation_prompt=True,
                tools=told.tools,
                documents=None,
                **self._special_tokens,
            )
        except _FAILURES as wrong:
            if any(message.role in (CALLS, RESULT, TOOLS) for message in messages):
                raise Refused(
                    RefusalCode.INVALID,
                    f"this base's chat template takes no tools, or not these: {wrong}",
                    retryable=False,
                ) from None
            raise InvalidModel(
                f"the base's chat template does not accept this conversation: {wrong}"
            ) from None

    @cached_property
    def _traits(self) -> TemplateTraits:
        names = meta.find_undeclared_variables(_environment().parse(self._template))
        return TemplateTraits(tools="tools" in names, tool_calls="tool_calls" in self._template)

    @cached_property
    def _compiled(self) -> jinja2.Template:
        if not self._template:
            raise InvalidModel(
                "this base has no chat template: send token ids, or add an instruction-tuned base"
            )
        environment = _environment()
        try:
            return environment.from_string(self._template)
        except jinja2.TemplateError as wrong:
            raise InvalidModel(f"the base's chat template cannot be compiled: {wrong}") from None


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    return environment


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> Any:
    raise jinja2.TemplateError(message)
