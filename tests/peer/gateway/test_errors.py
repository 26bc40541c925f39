"""Errors through HTTP and back."""

from collections.abc import Iterator

import pytest

from commonlore.peer.gateway import errors as gateway_errors
from commonlore.peer.gateway.errors import CLASS_OF, STATUS_OF, envelope, error_of, status_of
from commonlore.protocol import errors
from commonlore.protocol.errors import CommonloreError, Refused, Stale
from commonlore.protocol.inference.messages import RefusalCode


def classes(module: object) -> Iterator[type[CommonloreError]]:
    found = (value for value in vars(module).values() if isinstance(value, type))
    return (cls for cls in found if issubclass(cls, CommonloreError) and cls not in (Refused, Stale))


@pytest.mark.parametrize(
    "cls", dict.fromkeys([*classes(errors), *classes(gateway_errors)]), ids=lambda cls: cls.__name__
)
def test_every_error_comes_back_as_itself(cls: type[CommonloreError]) -> None:
    told = envelope(cls("what was wrong, and the remedy"))["error"]
    error = error_of(told)
    assert type(error) is cls
    assert (str(error), error.code) == ("what was wrong, and the remedy", cls.code)


@pytest.mark.parametrize("code", RefusalCode)
def test_every_refusal_has_a_status_and_comes_back(code: RefusalCode) -> None:
    assert code in STATUS_OF
    error = error_of(envelope(Refused(code, "no", retryable=True))["error"])
    assert isinstance(error, Refused)
    assert (error.code, error.retryable) == (code, True)


def test_a_code_from_another_version_stays_readable() -> None:
    error = error_of({"code": "quantum_failure", "message": "no"})
    assert (type(error), error.code, str(error)) == (CommonloreError, "quantum_failure", "no")
    assert str(error_of({})) == "the node gave no reason"
    assert CommonloreError.code == "error"


def test_what_has_no_status_of_its_own_is_the_nodes_fault() -> None:
    for code in ("training_failed", "attribution_failed", "internal", "error"):
        assert status_of(CLASS_OF[code]("x")) == 500


def test_the_field_travels_with_its_error() -> None:
    told = envelope(gateway_errors.InvalidRequest("seed is 1.5", "seed"))["error"]
    assert (told["param"], told["type"]) == ("seed", "invalid_request_error")
    error = error_of(told)
    assert isinstance(error, gateway_errors.InvalidRequest)
    assert error.param == "seed"
