"""`POST /v1/chat/completions`: what is answered, whole or in chunks.

A reply carries the extension `receipt` (in a stream: the chunk with the finish reason): the last receipt's
id, what the whole answer cost, whether every receipt of it is verified, who answered and with which adapters,
of which `adapter` weighs most, the rows that stood before the question (`citations`), and the hashes of what
tools gave back in the prompt (`tools`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...protocol.inference.messages import TokenLogprob
from ...protocol.receipts.credits import heaviest_adapter
from ...protocol.signing.eip712 import Domain
from ..asking.answers import Delta, Transcript
from .asks import CountedAnswer
from .tool_reply import split_calls
from .views import id_of, is_verified, plain

_FINISH = {"stop": "stop", "length": "length"}
"""How an engine's reasons are called here; one that was cut off otherwise was ended by a length of time."""


@dataclass(frozen=True, slots=True)
class ReplyFrame:
    """What every part of one reply repeats. `created` is Unix seconds."""

    reply_id: str
    model: str
    created: int

    def _part(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.reply_id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }

    def chunk(self, delta: dict[str, Any], logprobs: Any = None, finish: str | None = None) -> dict[str, Any]:
        """One chunk of a stream."""
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return self._part("chat.completion.chunk", [choice])

    def usage_chunk(self, script: Transcript) -> dict[str, Any]:
        """The chunk after the last one, where usage was asked for."""
        return {**self._part("chat.completion.chunk", []), "usage": usage_of(script)}

    def whole(
        self, script: Transcript, logprobs: Any, receipt: dict[str, Any] | None, has_tools: bool = False
    ) -> dict[str, Any]:
        """A reply in one piece; `has_tools`: the calls in it are given as such."""
        text, calls = split_calls(script.text, self.reply_id) if has_tools else (script.text, [])
        content = None if calls and not text else text
        message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        choice = {
            "index": 0,
            "message": message | {"tool_calls": calls} if calls else message,
            "logprobs": logprobs,
            "finish_reason": finish_of(script, calls),
        }
        part = self._part("chat.completion", [choice])
        return {**part, "usage": usage_of(script), "receipt": receipt}


def usage_of(script: Transcript) -> dict[str, int]:
    """Tokens of prompt and answer."""
    prompt, output = script.prompt_tokens, len(script.tokens)
    return {"prompt_tokens": prompt, "completion_tokens": output, "total_tokens": prompt + output}


def finish_of(script: Transcript, calls: Sequence[Any] = ()) -> str:
    """`stop` or `length`; `tool_calls` where an answer that was not cut off ends in calls."""
    finish = _FINISH.get(script.finish, "length")
    return "tool_calls" if calls and finish == "stop" else finish


def receipt_of(domain: Domain, answer: CountedAnswer) -> dict[str, Any] | None:
    """The extension `receipt`; None when no worker lived to give one."""
    script = answer.transcript
    if not script.receipts:
        return None
    ids = [id_of(signed) for signed in script.receipts]
    return {
        "id": ids[-1],
        "ids": ids,
        "price": script.price,
        "verified": all(is_verified(domain, signed) for signed in script.receipts),
        "worker": script.workers[-1] if script.workers else None,
        "artefacts": list(script.artefacts),
        "adapter": heaviest_adapter(answer.adapters),
        "adapters": plain(answer.adapters),
        "citations": plain(answer.citations),
        "tools": plain(script.receipts[-1].details.tool_calls),
    }


def logprobs_of(delta: Delta, top: int | None) -> dict[str, Any] | None:
    """OpenAI's `logprobs` for one delta; None where they were not asked for or the worker sent others.

    Tokens are called by id (`token_id:42`): the tokenizer is the worker's.
    """
    stride = 0 if top is None else 1 + max(1, top)
    if not stride or not delta.tokens or len(delta.logprobs) != stride * len(delta.tokens):
        return None
    groups = [delta.logprobs[start : start + stride] for start in range(0, len(delta.logprobs), stride)]
    return {"content": [_token_entry(group[0], group[1 : 1 + (top or 0)]) for group in groups]}


def _token_entry(chosen: TokenLogprob, others: tuple[TokenLogprob, ...]) -> dict[str, Any]:
    return {**_spelled(chosen), "top_logprobs": [_spelled(other) for other in others]}


def _spelled(entry: TokenLogprob) -> dict[str, Any]:
    return {"token": f"token_id:{entry.token}", "logprob": -entry.micro_nats / 1e6, "bytes": None}


def join_logprobs(parts: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The log-probabilities of a whole reply; None where there are none."""
    content = [entry for part in parts for entry in part["content"]]
    return {"content": content, "refusal": None} if content else None
