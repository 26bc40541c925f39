"""Where a network's contracts are and the terms they were deployed with: what every peer of a network must
agree on.

Written as JSON (addresses in EIP-55 text) into a peer's configuration; read back strictly.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ...protocol.errors import CommonloreError, ConfigError
from ...protocol.ids import Address, checksummed, to_address
from ...protocol.signing.eip712 import Domain
from .terms import Terms

_REMEDY = "give the JSON that `commonlore up` or the network's operator wrote"
_ADDRESSES = {
    "CommonloreToken": "token",
    "Registry": "registry",
    "Escrow": "escrow",
    "Settlement": "settlement",
    "Bonds": "bonds",
    "ReceiptProofs": "receipt_proofs",
    "LineProofs": "line_proofs",
    "EarningsProofs": "earnings_proofs",
    "CreditProofs": "credit_proofs",
    "Demands": "demands",
    "Indexes": "indexes",
    "Beacon": "beacon",
    "Arbiter": "arbiter",
    "WorkPool": "check_pool",
}
_ACCOUNTS = (*_ADDRESSES.values(), "platform", "work_pool")

__all__ = ["Deployment", "Terms"]


@dataclass(frozen=True, slots=True)
class Deployment:
    """The contracts of one network, and the terms that peers go by.

    Times are seconds (genesis: Unix); `block` is where their events begin. `work_pool` is the account of that
    share, `check_pool` the contract that pays those who check: the same, unless another account was named.
    """

    chain_id: int
    token: Address
    registry: Address
    escrow: Address
    settlement: Address
    bonds: Address
    receipt_proofs: Address
    line_proofs: Address
    earnings_proofs: Address
    credit_proofs: Address
    demands: Address
    indexes: Address
    beacon: Address
    arbiter: Address
    check_pool: Address
    platform: Address
    work_pool: Address
    genesis: int
    epoch_length: int
    grace: int
    window: int
    thaw: int
    answer: int
    patience: int
    residue: int
    pot_per_bond: int
    minimum_bond: int
    demand_stake: int
    round_length: int
    block: int

    def address_of(self, contract: str) -> Address:
        """Where a contract is, by its name in the sources."""
        address: Address = getattr(self, _ADDRESSES[contract])
        return address

    @property
    def domain(self) -> Domain:
        """The one EIP-712 domain of everything signed for this network."""
        return Domain(self.chain_id, self.escrow)

    def epoch_at(self, timestamp: int) -> int:
        """The epoch that a chain time (Unix seconds) lies in."""
        return max(timestamp - self.genesis, 0) // self.epoch_length

    def postable_at(self, epoch: int) -> int:
        """When an epoch can be posted, in chain time (Unix seconds)."""
        return self.genesis + (epoch + 1) * self.epoch_length + self.grace

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        plain = asdict(self)
        return plain | {name: checksummed(plain[name]) for name in _ACCOUNTS}

    @classmethod
    def from_dict(cls, data: Any) -> Deployment:
        """Raises ConfigError that names what is missing, unknown or ill-formed."""
        names = {field.name for field in fields(cls)}
        if not isinstance(data, dict) or set(data) != names:
            differing = sorted(names ^ set(data)) if isinstance(data, dict) else "not an object"
            raise ConfigError(
                f"not a deployment: missing or unknown {differing}; copy the one `commonlore up` printed"
            )
        try:
            return cls(**{name: _parsed(name, value) for name, value in data.items()})
        except (CommonloreError, ValueError, TypeError) as error:
            raise ConfigError(f"not a deployment: {error}") from error

    def save(self, path: Path) -> None:
        """Writes it where `load` finds it."""
        path.write_text(json.dumps(self.to_dict(), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Deployment:
        """Raises ConfigError when the file is absent or no deployment."""
        try:
            return cls.from_dict(json.loads(path.read_text()))
        except OSError as error:
            raise ConfigError(f"no deployment in {path}: {error.strerror}; {_REMEDY}") from error
        except ValueError as error:
            raise ConfigError(f"no deployment in {path}: {error}; {_REMEDY}") from error


def _parsed(name: str, value: Any) -> Any:
    if name in _ACCOUNTS:
        return to_address(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{name} must be a whole number, not {value!r:.80}")
    return value
