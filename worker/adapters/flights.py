"""One undertaking for all who want its outcome at the same time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import trio

from ...protocol.errors import CommonloreError

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


@dataclass(slots=True)
class _Flight(Generic[T]):
    done: trio.Event = field(default_factory=trio.Event)
    outcome: list[T] = field(default_factory=list)
    error: CommonloreError | None = None


class Flights(Generic[K, T]):
    """Undertakings under way, by key."""

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[T]] = {}

    async def join(self, key: K, undertake: Callable[[], Awaitable[T]]) -> T:
        """The outcome, or the error, of the undertaking of this key: of the one under way or of a new one.

        When the one who undertakes it is cancelled, another of those who wait takes over.
        """
        while (flight := self._flights.get(key)) is not None:
            await flight.done.wait()
            if flight.error is not None:
                raise flight.error
            if flight.outcome:
                return flight.outcome[0]
        return await self._lead(key, undertake)

    async def _lead(self, key: K, undertake: Callable[[], Awaitable[T]]) -> T:
        flight: _Flight[T] = _Flight()
        self._flights[key] = flight
        try:
            flight.outcome.append(await undertake())
        except CommonloreError as error:
            flight.error = error
            raise
        finally:
            del self._flights[key]
            flight.done.set()
        return flight.outcome[0]
