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


@contextmanager
def single_leaf() -> Iterator[None]:
    """Within the block, a group around one exception, however many nurseries wrapped it, leaves as that
    exception: for services whose nurseries are nobody's business."""
    try:
        yield
    except BaseExceptionGroup as group:
        leaf: BaseException = group
        while isinstance(leaf, BaseExceptionGroup) and len(leaf.exceptions) == 1:
            leaf = leaf.exceptions[0]
        if isinstance(leaf, BaseExceptionGroup):
            raise
        raise leaf  # noqa: B904 - its own cause is the one that matters
