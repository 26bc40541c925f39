"""A web3 provider that reaches a chain in this very process, through the same JSON as over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from web3.providers.base import JSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

Respond = Callable[[Any], Any]
"""Answers one decoded JSON-RPC request with a decoded response."""


class LocalProvider(JSONBaseProvider):
    """Hands every request to `respond`. Thread-safe if that is."""

    def __init__(self, respond: Respond) -> None:
        super().__init__()
        self._respond = respond

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        """The response, as decoded from JSON."""
        request = json.loads(self.encode_rpc_request(method, params))
        answer: RPCResponse = json.loads(json.dumps(self._respond(request)))
        return answer
