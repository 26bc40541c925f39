"""Options as dataclasses: a command takes one parameter a group, and the shell sees the options in it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints


def takes_groups(command: Callable[..., None]) -> Callable[..., None]:
    """A command in whose place typer sees the fields of each parameter that is a dataclass."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())
    groups: dict[str, Any] = {each.name: each.annotation for each in own if is_dataclass(each.annotation)}

    @functools.wraps(command)
    def taking(**given: object) -> None:
        made = {
            name: group(**{field.name: given.pop(field.name) for field in fields(group)})
            for name, group in groups.items()
        }
        command(**given, **made)

    seen = [option for each in own for option in _options(each)]
    taking.__signature__ = inspect.Signature(seen)  # type: ignore[attr-defined]
    taking.__annotations__ = {each.name: each.annotation for each in seen}
    return taking


def _options(parameter: inspect.Parameter) -> Iterator[inspect.Parameter]:
    """A parameter as typer sees it: itself, or the fields of its group."""
    group = parameter.annotation
    if not is_dataclass(group):
        yield parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        return
    hints = get_type_hints(group, include_extras=True)
    for field in fields(group):
        default = inspect.Parameter.empty if field.default is MISSING else field.default
        yield inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hints[field.name]
        )
