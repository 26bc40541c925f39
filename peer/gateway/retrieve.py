"""The fields `retrieve` and `template` of an ask: {"datanet": name or id, "rows": how many}, and
{"datanet": name or id, "row": which, from 1}."""

from __future__ import annotations

from ...protocol.content.manifests import MAX_ROWS_PER_SHARD
from ...protocol.requests.records import MAX_ROWS_SHOWN
from ..asking.answers import Retrieval, Template
from .fields import Fields

_DEFAULT = Retrieval("")


def read_retrieve(fields: Fields) -> Retrieval | None:
    """The rows that are wanted before a question; None where none are. Raises InvalidRequest."""
    wanted = fields.object_or_none("retrieve")
    if wanted is None:
        return None
    wanted.only(("datanet", "rows"))
    return Retrieval(
        wanted.text("datanet", high=128), wanted.integer_or("rows", _DEFAULT.rows, 1, MAX_ROWS_SHOWN)
    )


def read_template(fields: Fields) -> Template | None:
    """The template that is wanted before a question; None where none is. Raises InvalidRequest."""
    wanted = fields.object_or_none("template")
    if wanted is None:
        return None
    wanted.only(("datanet", "row"))
    return Template(wanted.text("datanet", high=128), wanted.integer_or("row", 1, 1, MAX_ROWS_PER_SHARD))
