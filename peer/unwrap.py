"""One error out of a nursery: callers of a conversation expect the typed error that ended it, not a group
around it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..protocol.errors import CommonloreError


@contextmanager
def single_error() -> Iterator[None]:
    """Within the block, a group that holds errors of ours (and perhaps cancellations) leaves as the first
    of them."""
    try:
        yield
    except BaseExceptionGroup as group:
        ours, others = group.split(CommonloreError)
        if ours is None or (others is not None and others.subgroup(Exception) is not None):
            raise
        raise _first(ours) from None


def _first(group: BaseExceptionGroup[CommonloreError]) -> CommonloreError:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
