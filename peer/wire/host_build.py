"""What a libp2p host is made of: its key, its security, its multiplexer, its limits. Nothing listens yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from libp2p import create_yamux_muxer_option, new_host
from libp2p.abc import IHost
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.x25519 import create_new_key_pair as create_noise_key_pair
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.rcmgr.connection_limits import ConnectionLimits
from libp2p.rcmgr.manager import ResourceLimits, ResourceManager
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE
from libp2p.security.noise.transport import Transport as NoiseTransport
from multiaddr import Multiaddr

from . import compat
from .addresses import announcer


@dataclass(frozen=True, slots=True)
class HostConfig:
    """What a host is. `secret` is the 32-byte seed of the peer's Ed25519 key; `listen` the multiaddrs to
    listen on (none: it only dials); `announce` what to tell others instead, where the machine has another
    address outside."""

    secret: bytes = field(repr=False)
    listen: tuple[str, ...] = ("/ip4/127.0.0.1/tcp/0",)
    announce: tuple[str, ...] = ()
    max_connections: int = 256


def build_host(config: HostConfig, listen: list[Multiaddr]) -> IHost:
    """The host that this configuration describes, which fails only its own callers."""
    key_pair = create_new_key_pair(config.secret)
    noise = NoiseTransport(key_pair, noise_privkey=create_noise_key_pair().private_key)
    limit = config.max_connections
    host = new_host(
        key_pair=key_pair,
        sec_opt={NOISE: noise},
        muxer_opt=create_yamux_muxer_option(),
        listen_addrs=listen,
        addrs_factory=announcer(config.announce),
        disable_identify_address_discovery=True,
        connection_config=ConnectionConfig(
            max_connections=limit,
            high_watermark=limit,
            low_watermark=0,  # nobody is dialled but whom we dial
            min_connections=0,
            max_connections_per_peer=1,
        ),
        resource_manager=ResourceManager(
            limits=ResourceLimits(max_connections=limit, max_streams=limit * 64),
            connection_limits=ConnectionLimits(max_established_total=limit, max_established_per_peer=4),
            enable_metrics=False,
            enable_circuit_breaker=False,
            enable_graceful_degradation=False,
        ),
    )
    network: Any = host.get_network()
    network.retry_config = RetryConfig(max_retries=0)
    compat.contain_failures(network)
    return host
