"""What schedulers decided, in a form that can be compared between drivers."""

from __future__ import annotations

from ...scheduler.core import Scheduler
from ...scheduler.events import Action, AskArrived, AskId, Dispatch, Event, GiveUp

Decision = tuple[int, str, int]
"""Which ask (in its gateway's order of arrival, from 0), where it went or why it was given up, and the
attempt's number (0: given up)."""


class NotedScheduler(Scheduler):
    """The scheduler, with a list of where it sent what."""

    decisions: list[Decision]

    def step(self, now_ms: int, event: Event) -> list[Action]:
        """As the scheduler's own."""
        if not hasattr(self, "decisions"):
            self.decisions, self._order = [], dict[AskId, int]()
        if isinstance(event, AskArrived):
            self._order[event.spec.ask_id] = len(self._order)
        actions = super().step(now_ms, event)
        for action in actions:
            match action:
                case Dispatch(ask_id=ask_id, peer=peer, attempt=attempt):
                    self.decisions.append((self._order[ask_id], peer, attempt))
                case GiveUp(ask_id=ask_id, code=code):
                    self.decisions.append((self._order[ask_id], code, 0))
        return actions
