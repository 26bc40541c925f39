"""The house's rules about imports: a room imports only the rooms below it, and the pure rooms stay pure."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "protocol": set[str](),
    "scheduler": {"protocol"},
    "worker": {"protocol"},
    "contracts": {"protocol"},
    "peer": {"protocol", "scheduler", "worker", "contracts"},
    "simulations": {"protocol", "scheduler", "worker", "contracts", "peer"},
    "cli": {"protocol", "scheduler", "worker", "contracts", "peer", "simulations"},
}
IMPURE = {
    *("trio", "asyncio", "socket", "time", "random", "os", "logging", "torch", "web3", "libp2p", "aiosqlite"),
    *("threading", "secrets", "subprocess", "httpx", "anyio"),
}
PROTOCOL_ROOMS = (
    *("encoding", "signing", "content", "gossip", "requests"),
    *("receipts", "inference", "attribution", "settlement"),
)
PEER_ROOMS = (
    *("store", "wire", "identity", "blobs", "settling", "asking", "watchtower"),
    *("local", "datanets", "serving", "attribution", "roles", "training", "demo"),
)
SIMULATION_ROOMS = (
    *("experiment", "modelled", "workload", "network", "virtual", "studies", "results"),
    *("sweep", "compiled"),
)
CONTRACT_ROOMS = ("calling", "deploying", "client", "embedded", "staging")
ENGINE_ROOMS = ("memory", "batching", "lora", "decoding", "process")
"""From below upward. The files beside them wire them together, and `gateway` shows them to programs."""
INNER_ROOMS = [
    ("protocol", PROTOCOL_ROOMS, set[str]()),
    ("contracts", CONTRACT_ROOMS, set[str]()),
    ("simulations", SIMULATION_ROOMS, set[str]()),
    ("peer", PEER_ROOMS, {"gateway"}),
    ("worker/engine", ENGINE_ROOMS, {"native", "exllamav2"}),
]
ONLY_IN = {
    "libp2p": {"peer/wire/compat.py", "peer/wire/host"},
    "aiosqlite": {"peer/store/database.py"},
    "exllamav2": {"worker/engine"},
}


def imported(path: Path) -> Iterator[str]:
    """Every module a file imports, in full; relative ones resolved against its place in the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
        elif isinstance(node, ast.ImportFrom):
            package = [*path.relative_to(ROOT).parent.parts]
            base = package[: len(package) - (node.level - 1)]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from (".".join(["commonlore", *base, name]) for name in names)


def files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_a_room_imports_only_rooms_below_it(room: str) -> None:
    assert files(room)
    for path in files(room):
        for name in imported(path):
            parts = name.split(".")
            other = parts[1] if parts[0] == "commonlore" and len(parts) > 1 else room
            assert other == room or other in MAY_IMPORT[room] or other not in MAY_IMPORT, f"{path}: {name}"


@pytest.mark.parametrize(("house", "rooms", "free"), INNER_ROOMS)
def test_an_inner_room_imports_no_room_above_it(house: str, rooms: tuple[str, ...], free: set[str]) -> None:
    found = {path.name for path in (ROOT / house).iterdir() if (path / "__init__.py").exists()}
    assert found == {*rooms, *free}
    for number, room in enumerate(rooms):
        for path in files(f"{house}/{room}"):
            for name in imported(path):
                inside = name.removeprefix(f"commonlore.{house.replace('/', '.')}.")
                assert inside == name or inside.split(".")[0] not in rooms[number + 1 :], f"{path}: {name}"


@pytest.mark.parametrize("room", ["protocol", "scheduler"])
def test_the_pure_rooms_do_no_io(room: str) -> None:
    for path in files(room):
        for name in imported(path):
            assert name.split(".")[0] not in IMPURE, f"{path}: {name}"


def test_each_library_has_its_seam() -> None:
    for room in MAY_IMPORT:
        for path in files(room):
            place = path.relative_to(ROOT).as_posix()
            for name in imported(path):
                allowed = ONLY_IN.get(name.split(".")[0])
                assert allowed is None or any(place.startswith(p) for p in allowed), f"{place}: {name}"


def test_the_root_holds_a_docstring_only() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text())
    assert len(tree.body) == 1
    assert ast.get_docstring(tree)
    assert [p.name for p in ROOT.glob("*.py")] == ["__init__.py"]
