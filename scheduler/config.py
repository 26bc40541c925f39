"""What a scheduler may be told to do differently."""

from __future__ import annotations

from dataclasses import dataclass

from ..protocol.errors import ConfigError
from ..protocol.gossip.adverts import ADVERT_LIFETIME_MS
from .clients import Budget
from .policies import DEFAULT_POLICY, POLICIES
from .standing import PPM
from .view import BACKLOG


@dataclass(frozen=True, slots=True)
class SchedulerConfig:
    """`max_attempts` bounds failed dispatches in a row without a token; `final_opinions` is how many
    workers must decline an ask for good before it is given up; `backlog` is in batches. `hedge_ppm` is the
    share of asks that may be sent to a second worker when the first is late: only for drivers that can run
    two attempts at once. `client_asks` and `client_spend` (token units in `spend_window_ms`) bound each
    client; 0 does not. Raises ConfigError on an unknown policy or a share above all."""

    policy: str = DEFAULT_POLICY
    advert_lifetime_ms: int = ADVERT_LIFETIME_MS
    max_workers: int = 20_000
    max_asks: int = 10_000
    max_attempts: int = 6
    final_opinions: int = 2
    backoff_ms: int = 50
    max_backoff_ms: int = 5_000
    backlog: int = BACKLOG
    hedge_ppm: int = 0
    client_asks: int = 0
    client_spend: int = 0
    spend_window_ms: int = 3_600_000

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ConfigError(f"unknown routing policy {self.policy!r}; choose one of: {', '.join(POLICIES)}")
        if not 0 <= self.hedge_ppm <= PPM or self.spend_window_ms < 1:
            raise ConfigError(f"hedge_ppm is between 0 and {PPM}, spend_window_ms at least 1")

    @property
    def budget(self) -> Budget:
        """What each client may have."""
        return Budget(self.client_asks, self.client_spend, self.spend_window_ms)
