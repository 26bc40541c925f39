"""What the control API takes: bodies as typed orders."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields as fields_of
from typing import Any

from ...protocol.attribution.faithfulness import FEWEST_SUBSETS
from ...protocol.content.compositions import MAX_ADAPTERS
from ...protocol.content.manifests import MAX_ROWS_PER_SHARD
from ...protocol.content.names import EXPECTED, is_alias, is_name
from ...protocol.encoding.fields import PPM
from ...protocol.requests.records import ChatMessage, Disclosure
from ...protocol.requests.rules import MAX_DEADLINE_S, MAX_TOP_LOGPROBS
from ...worker.factory.job import Pair, TrainConfig
from ...worker.factory.merge_job import make_plan
from ..asking.answers import DEFAULT_DEADLINE_S, AskOptions
from ..asking.composition import Weighted
from ..datanets.shards import DatanetPlan
from .conversation import read_messages, read_tool_results
from .fields import Fields
from .models import MAX_MODEL, Models, Target
from .node import MergeOrder, RowsDraft, TrainOrder
from .retrieve import read_retrieve, read_template
from .sampling import SAMPLING_NAMES, Entropy, read_sampling, read_stop

GREEDY = 0.0
MAX_CONTRIBUTIONS = 4_096
MAX_ORDERED_ROWS = 1_000_000
MAX_RETRAININGS = 1_000
MAX_AMOUNT = (1 << 128) - 1
_DISCLOSURES = {
    "none": Disclosure.NONE,
    "audit": Disclosure.AUDIT,
    "audit+attribution": Disclosure.AUDIT_AND_ATTRIBUTION,
}
_ASK_NAMES = frozenset(
    ("prompt", "messages", "adapter", "adapters", "base", "max_price", "deadline_s", "disclosure")
) | {"top_logprobs", "retrieve", "template", "tool_results", *SAMPLING_NAMES}


async def read_ask(fields: Fields, models: Models, entropy: Entropy) -> AskOptions:
    """A question: `prompt`, with `tool_results` perhaps, or `messages`; `adapter`, or `adapters` with
    weights, or a `base`, or neither.

    Greedy unless a temperature is given. Raises InvalidRequest and UnknownModel.
    """
    fields.only(_ASK_NAMES)
    target = await _read_target(fields, models)
    return AskOptions(
        messages=_read_turns(fields),
        adapters=target.adapters,
        base=target.base,
        sampling=read_sampling(fields, GREEDY, entropy),
        stop=read_stop(fields),
        max_price=fields.integer_or("max_price", None, 0, MAX_AMOUNT),
        deadline_s=fields.number_or("deadline_s", DEFAULT_DEADLINE_S, 1, MAX_DEADLINE_S),
        disclosure=_DISCLOSURES[fields.choice_or("disclosure", "audit+attribution", _DISCLOSURES)],
        top_logprobs=fields.integer_or("top_logprobs", 0, 0, MAX_TOP_LOGPROBS),
        retrieve=read_retrieve(fields),
        template=read_template(fields),
    )


def _read_turns(fields: Fields) -> tuple[ChatMessage, ...]:
    if fields.has("messages"):
        for other in ("prompt", "tool_results"):
            if fields.has(other):
                raise fields.fail(other, "and messages exclude each other; send one of them")
        return read_messages(fields)
    return (ChatMessage("user", fields.text("prompt")), *read_tool_results(fields))


async def _read_target(fields: Fields, models: Models) -> Target:
    given = [name for name in ("adapter", "adapters", "base") if fields.has(name)]
    if len(given) > 1:
        raise fields.fail(given[0], f"and {given[1]} exclude each other; send one of them")
    if given == ["adapters"]:
        return await _read_composition(fields, models)
    return await models.resolve(fields.text(given[0], high=MAX_MODEL)) if given else Target()


async def _read_composition(fields: Fields, models: Models) -> Target:
    weighted = _read_weighted(fields, PPM)
    if (whole := sum(weight for _, weight in weighted)) != PPM:
        raise fields.fail("adapters", f"weigh {whole} ppm together; they must make {PPM}")
    return await models.compose(weighted)


def _read_weighted(fields: Fields, high: int) -> Weighted:
    """{name, weight_ppm} of each adapter."""
    weighted: list[tuple[str, int]] = []
    for entry in fields.objects("adapters", 1, MAX_ADAPTERS):
        entry.only(("name", "weight_ppm"))
        weighted.append((entry.text("name", high=512), entry.integer("weight_ppm", 1, high)))
    return tuple(weighted)


def read_publication(fields: Fields) -> tuple[DatanetPlan, list[RowsDraft]]:
    """A Datanet version to publish. Raises InvalidRequest."""
    fields.only(("name", "purpose", "kind", "licence", "contributions"))
    plan = DatanetPlan(
        name=_read_name(fields, is_name, EXPECTED),
        purpose=fields.text("purpose", high=256, low=0),
        kind=fields.text("kind", high=64),
        licence=fields.text("licence", high=256),
    )
    return plan, [_read_draft(entry) for entry in fields.objects("contributions", 1, MAX_CONTRIBUTIONS)]


def _read_name(fields: Fields, fits: Callable[[str], bool], expected: str) -> str:
    name = fields.text("name", high=256)
    if not fits(name):
        raise fields.fail("name", f"is {name!r}; expected {expected}")
    return name


def _read_draft(fields: Fields) -> RowsDraft:
    fields.only(("contributor", "rows", "licence", "origin", "notice"))
    return RowsDraft(
        contributor=fields.text("contributor", high=64),
        rows=tuple(_read_row(row) for row in fields.objects("rows", 1, MAX_ROWS_PER_SHARD)),
        licence=fields.text("licence", high=256),
        origin=fields.text("origin", high=256, low=0),
        notice=fields.text_or("notice", "", low=0),
    )


def _read_row(fields: Fields) -> Pair:
    fields.only(("question", "answer"))
    return Pair(fields.text("question"), fields.text("answer"))


def read_withdrawal(fields: Fields) -> tuple[str, str, str]:
    """(Datanet, contributor, reason). Raises InvalidRequest."""
    fields.only(("datanet", "contributor", "reason"))
    contributor = fields.text("contributor", high=64)
    return fields.text("datanet", high=128), contributor, fields.text_or("reason", "", high=256, low=0)


def read_training(fields: Fields) -> TrainOrder:
    """An adapter to train. `config` holds TrainConfig's fields. Raises InvalidRequest."""
    names = ("name", "datanets", "config", "licence", "index_rows", "retrainings", "refuse_noise", "heldout")
    fields.only(names)
    default = TrainOrder("", (), TrainConfig())
    return TrainOrder(
        name=_read_name(fields, is_alias, f"owner/name, each {EXPECTED}"),
        datanets=fields.texts("datanets", 1, 64),
        config=_read_config(fields.object_or_none("config") or Fields({})),
        licence=fields.text_or("licence", default.licence, high=256, low=0),
        index_rows=fields.integer_or("index_rows", default.index_rows, 0, MAX_ORDERED_ROWS),
        retrainings=_read_retrainings(fields, default.retrainings),
        refuse_noise=fields.flag_or("refuse_noise", default.refuse_noise),
        heldout=tuple(_read_row(row) for row in fields.objects("heldout", 0, MAX_ROWS_PER_SHARD)),
    )


def _read_retrainings(fields: Fields, default: int) -> int:
    wanted = fields.integer_or("retrainings", default, 0, MAX_RETRAININGS)
    if 0 < wanted < FEWEST_SUBSETS:
        raise fields.fail(
            "retrainings", f"is {wanted}; a correlation needs {FEWEST_SUBSETS}, 0 leaves it out"
        )
    return wanted


def read_merge(fields: Fields) -> MergeOrder:
    """An adapter to be made of others. Raises InvalidRequest, and ConfigError on a plan without a meaning."""
    fields.only(("name", "adapters", "method", "density_ppm", "seed", "rank", "licence"))
    plan = make_plan(
        fields.text("method", high=64),
        density_ppm=fields.integer_or("density_ppm", None, 0, (1 << 32) - 1),
        seed=fields.integer_or("seed", None, 0, (1 << 64) - 1),
        rank=fields.integer_or("rank", None, 0, (1 << 16) - 1),
    )
    return MergeOrder(
        name=_read_name(fields, is_alias, f"owner/name, each {EXPECTED}"),
        adapters=_read_weighted(fields, (1 << 32) - 1),
        plan=plan,
        licence=fields.text_or("licence", "", high=256, low=0),
    )


def _read_config(fields: Fields) -> TrainConfig:
    known = {field.name: field.default for field in fields_of(TrainConfig)}
    fields.only(known)
    given: dict[str, Any] = {}
    for name, default in known.items():
        if not fields.has(name):
            continue
        match default:
            case str():
                given[name] = fields.text(name, high=64)
            case float():
                given[name] = fields.number_or(name, default, 0, 1)
            case _:
                given[name] = fields.integer(name, 0, MAX_ORDERED_ROWS)
    return TrainConfig(**given)
