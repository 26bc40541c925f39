"""The committed vectors of the wire are what this code makes, byte for byte, and they read back."""

import json
import runpy
from pathlib import Path

import pytest

from commonlore.protocol.encoding.codec import decode, decode_value
from commonlore.protocol.errors import RemoteProtocolError
from commonlore.protocol.signing.keys import recover, verify_ed25519

VECTORS = Path(__file__).parents[1] / "vectors"
MADE = runpy.run_path(str(VECTORS / "generate_wire.py"))


def cases(name, section):
    return json.loads((VECTORS / name).read_text())[section]


@pytest.mark.parametrize("name", sorted(MADE["FILES"]))
def test_vectors_are_what_the_code_makes(name):
    assert MADE["render"](MADE["FILES"][name]()) == (VECTORS / name).read_text()


def test_values_and_records_read_back():
    for case in cases("cbor.json", "values"):
        assert decode_value(bytes.fromhex(case["encoded"])) == case["value"]
    for record, case in zip(MADE["RECORDS"], cases("cbor.json", "records"), strict=True):
        assert decode(type(record), bytes.fromhex(case["encoded"])) == record


@pytest.mark.parametrize("case", cases("cbor.json", "refused"), ids=lambda case: case["why"])
def test_refused_encodings_are_refused(case):
    with pytest.raises(RemoteProtocolError):
        decode_value(bytes.fromhex(case["encoded"]))


def test_binding_vectors_are_signed_by_all_three_keys():
    for case in cases("bindings.json", "bindings"):
        digest, binding = unhex(case["digest"]), case["binding"]
        assert recover(digest, unhex(case["ownerSignature"])) == unhex(binding["owner"])
        assert recover(digest, unhex(case["sessionSignature"])) == unhex(binding["sessionKey"])
        verify_ed25519(
            unhex(binding["ed25519Key"]), "commonlore/binding/1", digest, unhex(case["ed25519Signature"])
        )


def unhex(text):
    return bytes.fromhex(text.removeprefix("0x"))
