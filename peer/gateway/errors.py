"""Errors on their way through HTTP: one table of codes, statuses and classes, one envelope both ways.

The envelope is OpenAI's, `{"error": {"message", "type", "param", "code"}}`, with `retryable` added: whether
the same request may succeed elsewhere or later.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from ...protocol import errors
from ...protocol.errors import CommonloreError, NotFound, Refused
from ...protocol.inference.messages import RefusalCode


class InvalidRequest(CommonloreError):
    """A body, header or address that cannot be used; `param` names the field."""

    code = "invalid_request"

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class BodyTooLarge(InvalidRequest):
    """More bytes than this door takes."""

    code = "too_large"


class UnsupportedMedia(InvalidRequest):
    """A body that is not declared as JSON."""

    code = "unsupported_media_type"


class Unauthorised(CommonloreError):
    """No API key, or a wrong one, or a host name that this gateway does not answer to."""

    code = "invalid_api_key"


class UnknownModel(NotFound):
    """A model that is neither an adapter nor a base that the network announces."""

    code = "model_not_found"


class NotAllowed(CommonloreError):
    """A method that this address does not take."""

    code = "method_not_allowed"


class Defect(CommonloreError):
    """An error that nobody foresaw; what it was stands in the node's log."""

    code = "internal"


_CLASSES: tuple[type[CommonloreError], ...] = (
    errors.CommonloreError,
    errors.ProtocolError,
    errors.LocalProtocolError,
    errors.RemoteProtocolError,
    errors.InvalidSignature,
    errors.NotFound,
    errors.Unreachable,
    errors.DeadlineExceeded,
    errors.InvalidAdapter,
    errors.InvalidShard,
    errors.InvalidModel,
    errors.EngineFailed,
    errors.TrainingFailed,
    errors.AttributionFailed,
    errors.RetrievalFailed,
    errors.ChainError,
    errors.InsufficientEscrow,
    errors.ConfigError,
    errors.MissingDependency,
    InvalidRequest,
    BodyTooLarge,
    UnsupportedMedia,
    Unauthorised,
    UnknownModel,
    NotAllowed,
    Defect,
)
CLASS_OF: Mapping[str, type[CommonloreError]] = {cls.code: cls for cls in _CLASSES}
"""What to raise for a code that came through the control socket.

A refusal's code is not here: see `error_of` (`stale` is one).
"""

STATUS_OF: Mapping[str, HTTPStatus] = {
    "protocol": HTTPStatus.BAD_REQUEST,
    "local_protocol": HTTPStatus.BAD_REQUEST,
    "remote_protocol": HTTPStatus.BAD_GATEWAY,
    "invalid_signature": HTTPStatus.BAD_GATEWAY,
    "not_found": HTTPStatus.NOT_FOUND,
    "unreachable": HTTPStatus.SERVICE_UNAVAILABLE,
    "deadline_exceeded": HTTPStatus.GATEWAY_TIMEOUT,
    "invalid_adapter": HTTPStatus.BAD_REQUEST,
    "invalid_shard": HTTPStatus.BAD_REQUEST,
    "invalid_model": HTTPStatus.BAD_REQUEST,
    "engine_failed": HTTPStatus.SERVICE_UNAVAILABLE,
    "chain": HTTPStatus.SERVICE_UNAVAILABLE,
    "insufficient_escrow": HTTPStatus.PAYMENT_REQUIRED,
    "config": HTTPStatus.BAD_REQUEST,
    "missing_dependency": HTTPStatus.NOT_IMPLEMENTED,
    "invalid_request": HTTPStatus.BAD_REQUEST,
    "too_large": HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    "unsupported_media_type": HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    "invalid_api_key": HTTPStatus.UNAUTHORIZED,
    "model_not_found": HTTPStatus.NOT_FOUND,
    "method_not_allowed": HTTPStatus.METHOD_NOT_ALLOWED,
    RefusalCode.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
    RefusalCode.UNKNOWN_BASE: HTTPStatus.SERVICE_UNAVAILABLE,
    RefusalCode.UNKNOWN_ADAPTER: HTTPStatus.SERVICE_UNAVAILABLE,
    RefusalCode.BAD_ADAPTER: HTTPStatus.BAD_REQUEST,
    RefusalCode.PRICE: HTTPStatus.PAYMENT_REQUIRED,
    RefusalCode.CREDIT: HTTPStatus.PAYMENT_REQUIRED,
    RefusalCode.STALE: HTTPStatus.SERVICE_UNAVAILABLE,
    RefusalCode.INVALID: HTTPStatus.BAD_REQUEST,
    RefusalCode.TOO_LONG: HTTPStatus.BAD_REQUEST,
    RefusalCode.FAILED: HTTPStatus.SERVICE_UNAVAILABLE,
    RefusalCode.SHUTDOWN: HTTPStatus.SERVICE_UNAVAILABLE,
    RefusalCode.CANCELLED: HTTPStatus.SERVICE_UNAVAILABLE,
}
"""HTTP statuses by error code; what is not here is 500."""

_TYPE_OF: Mapping[HTTPStatus, str] = {
    HTTPStatus.BAD_REQUEST: "invalid_request_error",
    HTTPStatus.NOT_FOUND: "invalid_request_error",
    HTTPStatus.METHOD_NOT_ALLOWED: "invalid_request_error",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "invalid_request_error",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "invalid_request_error",
    HTTPStatus.UNAUTHORIZED: "authentication_error",
    HTTPStatus.PAYMENT_REQUIRED: "insufficient_quota",
    HTTPStatus.GATEWAY_TIMEOUT: "timeout_error",
}
_RETRYABLE = frozenset({"unreachable", "engine_failed"})


def status_of(error: CommonloreError) -> HTTPStatus:
    """The HTTP status that tells this error."""
    return STATUS_OF.get(error.code, HTTPStatus.INTERNAL_SERVER_ERROR)


def is_retryable(error: CommonloreError) -> bool:
    """Whether the same request may succeed elsewhere or a little later."""
    return error.retryable if isinstance(error, Refused) else error.code in _RETRYABLE


def envelope(error: CommonloreError) -> dict[str, Any]:
    """The JSON body that tells this error."""
    told = {
        "message": str(error) or error.code,
        "type": _TYPE_OF.get(status_of(error), "server_error"),
        "param": getattr(error, "param", None),
        "code": str(error.code),
        "retryable": is_retryable(error),
    }
    return {"error": told}


def error_of(told: Mapping[str, Any]) -> CommonloreError:
    """The typed error inside an envelope (the value of `error`): the other direction of `envelope`."""
    code, message = str(told.get("code") or "error"), str(told.get("message") or "the node gave no reason")
    if code in frozenset(RefusalCode):
        return Refused(code, message, retryable=bool(told.get("retryable")))
    cls = CLASS_OF.get(code, CommonloreError)
    if issubclass(cls, InvalidRequest):
        return cls(message, told.get("param"))
    error = cls(message)
    error.code = code
    return error
