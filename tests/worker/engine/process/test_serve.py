"""A defect in reading one caller's messages ends that call, not the engine."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from commonlore.protocol.errors import EngineFailed
from commonlore.protocol.requests.records import ChatMessage
from commonlore.worker.engine.process.serve import EngineServer
from commonlore.worker.engine.process.wire import CallFailed, Count, RequestFailed, error_of

SECRET = "what a caller wrote"


class Stumbling:
    """An engine that meets something nobody thought of."""

    def prepare(self, request: Any) -> Any:
        raise TypeError(SECRET)

    def count_tokens(self, messages: Any) -> int:
        raise TypeError(SECRET)


def test_a_defect_over_messages_fails_that_call_alone_and_quotes_nobody(
    lab: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server, sent = EngineServer(Stumbling(), None), []  # type: ignore[arg-type]
    server._outbox.send = sent.append  # type: ignore[method-assign]
    request = lab.ask(SECRET, 3)
    with caplog.at_level(logging.ERROR):
        server._take(Count(7, (ChatMessage("user", SECRET),)))
        server._take(request)
    counted, asked = sent
    assert isinstance(counted, CallFailed)
    assert isinstance(asked, RequestFailed)
    assert (counted.call, asked.request_id) == (7, request.request_id)
    for failed in (counted, asked):
        wrong = error_of(failed.failure)
        assert isinstance(wrong, EngineFailed)
        assert "TypeError" in str(wrong)
        assert SECRET not in str(wrong)
    assert SECRET not in caplog.text
    assert caplog.text.count("TypeError") == 2
