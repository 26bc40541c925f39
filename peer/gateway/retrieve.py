"""The field `retrieve` of an ask: {"datanet": name or id, "rows": how many}."""

from __future__ import annotations

from ...protocol.requests import MAX_ROWS_SHOWN
from ..answers import Retrieval
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
