"""The committed artefacts are those of the committed sources; errors are read by their names."""

import json
import shutil

import pytest
from eth_abi.abi import encode

from commonlore.contracts import build
from commonlore.contracts.artefacts import CONTRACTS, HERE, artefact, decode_revert
from commonlore.protocol.ids import keccak256

LARGEST_CONTRACT_BYTES = 24_576
"""EIP-170."""


def test_every_artefact_was_compiled_from_the_sources_here():
    """Without a compiler: by the digests it recorded.

    If this fails, run `python -m commonlore.contracts.build`.
    """
    assert build.stale_artefacts() == []


@pytest.mark.parametrize("name", CONTRACTS)
def test_artefacts_are_complete_and_deployable(name):
    data = json.loads((HERE / "artifacts" / f"{name}.json").read_text())
    assert f"src/{name}.sol" in data["sources"]
    assert data["settings"] == build.SETTINGS
    assert data["compiler"].startswith("0.8.37+")
    assert 0 < len(bytes.fromhex(data["deployedBytecode"][2:])) <= LARGEST_CONTRACT_BYTES


def test_a_changed_source_is_noticed(tmp_path, monkeypatch):
    changed = tmp_path / "contracts"
    shutil.copytree(HERE, changed, ignore=shutil.ignore_patterns("node_modules"))
    monkeypatch.setattr(build, "HERE", changed)
    (changed / "src" / "Registry.sol").write_text("// nothing")
    using = [name for name in CONTRACTS if "src/Registry.sol" in artefact(name).sources]
    assert {"Registry", "Settlement"} < set(using) < set(CONTRACTS)
    assert sorted(build.stale_artefacts()) == [f"{name}.json" for name in using]


@pytest.mark.npm
@pytest.mark.skipif(
    shutil.which("node") is None or not (HERE / "node_modules" / "solc").is_dir(),
    reason="the compiler is not installed: npm ci --ignore-scripts in contracts/",
)
def test_the_sources_compile_to_the_artefacts():
    assert build.main(["--check"]) == 0


def test_no_registry_is_named_in_the_lock():
    assert "http" not in (HERE / "package-lock.json").read_text().replace("https://github.com/sponsors", "")


def error_data(name, *values):
    """Return data of a revert with a custom error."""
    entry = next(e for c in CONTRACTS for e in artefact(c).abi if e["type"] == "error" and e["name"] == name)
    kinds = [field["type"] for field in entry["inputs"]]
    return keccak256(f"{name}({','.join(kinds)})".encode())[:4] + encode(kinds, values)


def test_reasons_are_decoded_by_name():
    reason = decode_revert(error_data("SessionExpired", "0x" + "11" * 20, 5))
    assert (reason.name, reason.arguments["notAfter"]) == ("SessionExpired", 5)
    assert str(reason) == f"SessionExpired(payer=0x{'11' * 20}, notAfter=5)"
    assert str(decode_revert(bytes.fromhex("08c379a0") + encode(["string"], ["no"]))) == "Error(message=no)"
    panic = bytes.fromhex("4e487b71") + encode(["uint256"], [0x11])
    assert str(decode_revert(panic)) == "Panic(reason=arithmetic overflow or underflow)"
    assert decode_revert(b"").name == "reverted without a reason"
    assert decode_revert(b"\xde\xad\xbe\xef").name == "unknown error 0xdeadbeef"
    assert decode_revert(error_data("SessionExpired", "0x" + "11" * 20, 5)[:40]).name == "SessionExpired"
