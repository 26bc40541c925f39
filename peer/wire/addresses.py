"""Multiaddrs: what a person typed, what another peer said, where to listen, what to announce.

The rules of this file: a person's mistake is a ConfigError that says what would be right; another peer's is
left out.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from multiaddr import Multiaddr

from ...protocol.errors import ConfigError
from ...protocol.ids import PeerId


def parse_address(text: str) -> tuple[PeerId, str]:
    """(peer id, multiaddr without /p2p) of a full peer address. Raises ConfigError."""
    try:
        address = Multiaddr(text)
        peer = address.value_for_protocol("p2p")
        plain = address.decapsulate(Multiaddr(f"/p2p/{peer}"))
    except Exception as wrong:  # multiaddr raises many unrelated classes for bad text
        raise ConfigError(
            f"not a peer address: {text[:120]!r}; expected /ip4/HOST/tcp/PORT/p2p/PEER"
        ) from wrong
    return PeerId(str(peer)), str(plain)


def listen_address(text: str) -> Multiaddr:
    """A TCP multiaddr that can be bound now. libp2p itself would share a port that another process listens
    on."""
    try:
        address = Multiaddr(text)
        protocols = {protocol.name: value for protocol, value in address.items()}
        family, ip = (
            (socket.AF_INET6, protocols["ip6"]) if "ip6" in protocols else (socket.AF_INET, protocols["ip4"])
        )
        port = int(protocols["tcp"])
    except Exception as wrong:  # multiaddr raises many unrelated classes for bad text
        raise ConfigError(f"cannot listen on {text[:120]!r}; expected /ip4/HOST/tcp/PORT") from wrong
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ip, port))
            probe.listen(1)
        except OSError as wrong:
            raise ConfigError(
                f"cannot listen on {text}: port {port}: {in_words(wrong)}; choose another (0: any free)"
            ) from wrong
    return address


def announcer(announce: tuple[str, ...]) -> Callable[[list[Multiaddr]], list[Multiaddr]]:
    """What a host says its addresses are: `announce`, or where it listens, a wildcard spelled out."""
    if announce:
        fixed = [Multiaddr(text) for text in announce]
        return lambda _listening: fixed
    return lambda listening: [Multiaddr(text) for address in listening for text in _spell_out(str(address))]


def _spell_out(address: str) -> tuple[str, ...]:
    if not address.startswith("/ip4/0.0.0.0/"):
        return (address,)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(
                ("192.0.2.1", 9)
            )  # sends nothing: asks the kernel which of its addresses it would use
            outside = str(probe.getsockname()[0])
        except OSError:
            outside = "127.0.0.1"
    return tuple(address.replace("0.0.0.0", ip, 1) for ip in dict.fromkeys((outside, "127.0.0.1")))


def plain_address(text: str) -> str | None:
    """A TCP multiaddr without /p2p, or None for what is none."""
    try:
        address = Multiaddr(text)
        names = [protocol.name for protocol in address.protocols()]
        if "p2p" in names:
            address = address.decapsulate(Multiaddr(f"/p2p/{address.value_for_protocol('p2p')}"))
        return str(address) if "tcp" in names else None
    except Exception:  # multiaddr raises many unrelated classes for bad text
        return None


def in_words(wrong: OSError) -> str:
    """An operating system's error, as it says it, in lower case."""
    return os.strerror(wrong.errno).lower() if wrong.errno else str(wrong)


def reason_of(wrong: BaseException) -> str:
    """The innermost plain cause of a libp2p failure, in a few words."""
    deepest, seen = wrong, 0
    while seen < 16:
        inner = deepest.__cause__ or deepest.__context__
        if isinstance(inner, BaseExceptionGroup):
            inner = inner.exceptions[0]
        if inner is None:
            break
        deepest, seen = inner, seen + 1
    if isinstance(deepest, OSError):
        return in_words(deepest)
    text = str(deepest)
    if "received pubkey" in text:
        return "another peer answers there"
    if "protocol not supported" in text:
        return "it does not speak that protocol"
    return text[:200] or type(deepest).__name__
