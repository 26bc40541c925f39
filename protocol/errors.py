"""Every error Commonlore raises on purpose.

Two families matter most: `LocalProtocolError` (this program broke the rules) and `RemoteProtocolError` (the
other side did). A message says what was wrong, with what, and what to do about it; it is shown to people as
it stands.
"""

from __future__ import annotations


class CommonloreError(Exception):
    """Root of the hierarchy. `code` is stable and machine-readable; it also travels in refusals."""

    code = "error"


class ProtocolError(CommonloreError):
    """A rule of the protocol was broken."""

    code = "protocol"


class LocalProtocolError(ProtocolError):
    """This program asked for something that the protocol forbids."""

    code = "local_protocol"


class RemoteProtocolError(ProtocolError):
    """Input from elsewhere breaks the protocol: too large, too deep, ill-typed, ill-signed, stale."""

    code = "remote_protocol"


class InvalidSignature(RemoteProtocolError):
    """A signature is absent, malformed, or by another key."""

    code = "invalid_signature"


class Stale(RemoteProtocolError):
    """Something arrived after its deadline, or is from the future."""

    code = "stale"


class Refused(CommonloreError):
    """The other side declined.

    `code` says why (see `protocol.inference.messages.RefusalCode`); `retryable` whether another may accept;
    `epoch` is the other side's present one, where that is why.
    """

    def __init__(self, code: str, message: str, *, retryable: bool = True, epoch: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retryable = retryable
        self.epoch = epoch


class NotFound(CommonloreError):
    """A blob, adapter, Datanet, base model, key or receipt that nobody reachable has."""

    code = "not_found"


class Unreachable(CommonloreError):
    """A peer, provider or chain endpoint that does not answer."""

    code = "unreachable"


class DeadlineExceeded(CommonloreError):
    """The caller's deadline passed before a result."""

    code = "deadline_exceeded"


class InvalidAdapter(CommonloreError):
    """An adapter file or manifest that must not be loaded."""

    code = "invalid_adapter"


class InvalidShard(CommonloreError):
    """A Datanet shard that breaks the limits or is not signed as it says."""

    code = "invalid_shard"


class InvalidModel(CommonloreError):
    """A base model that cannot be read or is not what its manifest says."""

    code = "invalid_model"


class EngineFailed(CommonloreError):
    """The engine process died or could not run a request."""

    code = "engine_failed"


class TrainingFailed(CommonloreError):
    """A training run that died or could not learn."""

    code = "training_failed"


class AttributionFailed(CommonloreError):
    """The attribution process died, or could not score an answer or index a row."""

    code = "attribution_failed"


class RetrievalFailed(CommonloreError):
    """The retrieval index of a Datanet cannot be used."""

    code = "retrieval_failed"


class ChainError(CommonloreError):
    """The chain rejected a transaction or read; the message carries its reason."""

    code = "chain"


class InsufficientEscrow(ChainError):
    """The payer's escrow does not cover the request."""

    code = "insufficient_escrow"


class ConfigError(CommonloreError):
    """A configuration value, flag or file that cannot be used."""

    code = "config"


class MissingDependency(CommonloreError):
    """An optional package that this command needs is not installed; the message names its extra."""

    code = "missing_dependency"
