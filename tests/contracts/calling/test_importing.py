"""web3 imports itself in circles, and Python gives up where two threads begin at once: whoever is first to
import it here holds a lock, whatever is called first.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import pytest

from commonlore.contracts.calling import endpoint as module
from commonlore.contracts.calling.endpoint import Endpoint
from commonlore.contracts.calling.events import EventReader

FIRST: dict[str, Callable[[Endpoint, Any], object]] = {
    "attempt": lambda endpoint, _: endpoint.attempt("chain", lambda web3: web3.eth.chain_id),
    "contract": lambda endpoint, place: endpoint.contract("CommonloreToken", place.token),
    "function": lambda endpoint, place: endpoint.function("CommonloreToken", place.token, "totalSupply"),
    "events": lambda endpoint, place: EventReader(endpoint, "Escrow", place.escrow, ()).head(),
}


@pytest.mark.parametrize("call", FIRST.values(), ids=FIRST.keys())
def test_whoever_is_first_imports_web3_alone(network: Any, monkeypatch: Any, call: Any) -> None:
    alone: list[bool] = []
    import_ = builtins.__import__

    def watched(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "web3":
            alone.append(module._IMPORTING.locked())
        return import_(name, *rest)

    endpoint = Endpoint(network.devchain.provider())
    monkeypatch.setattr(builtins, "__import__", watched)
    call(endpoint, network.deployment)
    monkeypatch.undo()
    assert alone[0], "another thread may import it at the same moment"
    assert not module._IMPORTING.locked()
