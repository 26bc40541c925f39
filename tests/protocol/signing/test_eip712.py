"""EIP-712 against eth-account, which hashes from JSON types and knows nothing of our shapes."""

import json
import re
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated

import pytest
from eth_account import Account
from eth_account.messages import encode_typed_data
from hypothesis import given, settings
from hypothesis import strategies as st

from commonlore.protocol.content.manifests import ShardHeader
from commonlore.protocol.encoding.fields import U8, Blob, Bytes16, Label, Signature65, Size
from commonlore.protocol.errors import InvalidSignature, LocalProtocolError
from commonlore.protocol.ids import Address, Cid, PeerId, digest_of, keccak256
from commonlore.protocol.inference.messages import TokenChunk
from commonlore.protocol.receipts.records import Receipt, Voucher
from commonlore.protocol.requests.records import Disclosure, InferenceRequest
from commonlore.protocol.signing.bindings import PeerBinding
from commonlore.protocol.signing.eip712 import (
    Domain,
    camel_case,
    digest,
    recover_signer,
    require_signer,
    sign,
    struct_hash,
    type_string,
)

VECTORS = json.loads((Path(__file__).parents[2] / "vectors" / "eip712.json").read_text())
VOUCHER = Voucher(Address(b"\x01" * 20), Address(b"\x02" * 20), 1, 2, 3, 4, b"\x05" * 32)


@dataclass(frozen=True, slots=True)
class Leaf:
    flag: bool
    level: Disclosure
    short: Bytes16


@dataclass(frozen=True, slots=True)
class Alpha:
    leaf: Leaf
    text: Label


@dataclass(frozen=True, slots=True)
class Zoo:
    """One field of every kind that EIP-712 knows, with a type used twice and one used below another."""

    small_number: U8
    text: Label
    content: Blob
    signature: Signature65
    peer: PeerId
    cid: Cid
    leaf: Leaf
    alphas: Annotated[tuple[Alpha, ...], Size(0, 3)]
    accounts: Annotated[tuple[Address, ...], Size(0, 3)]


SIGNED_RECORDS = (PeerBinding, InferenceRequest, Receipt, Voucher, ShardHeader, Zoo)


# ---- the oracle


def json_types(text):
    """`encodeType` as the JSON types that eth-account wants."""
    structs = re.findall(r"(\w+)\(([^)]*)\)", text)
    return {
        name: [dict(zip(("type", "name"), f.split(), strict=True)) for f in body.split(",")]
        for name, body in structs
    }


def json_value(value):
    if isinstance(value, tuple):
        return [json_value(item) for item in value]
    if is_dataclass(value):
        return {camel_case(f.name): json_value(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, str) and value.startswith("baf") and len(value) == 59:
        return digest_of(Cid(value))
    return "0x" + value.hex() if isinstance(value, bytes) and len(value) == 20 else value


def signable(chain_id, escrow, types, primary, message):
    domain = {"name": "Commonlore", "version": "1", "chainId": chain_id, "verifyingContract": escrow}
    full = {"domain": domain, "types": {"EIP712Domain": DOMAIN_FIELDS, **types}, "primaryType": primary}
    return encode_typed_data(full_message={**full, "message": message})


DOMAIN_FIELDS = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
    {"name": "verifyingContract", "type": "address"},
]


def hash_of(message):
    return keccak256(b"\x19" + message.version + message.header + message.body)


@pytest.mark.parametrize("cls", SIGNED_RECORDS, ids=lambda cls: cls.__name__)
@given(data=st.data())
@settings(max_examples=8)
def test_hashes_as_eth_account_does(cls, records, domain, data):
    record = data.draw(records(cls))
    types = json_types(type_string(cls))
    message = signable(domain.chain_id, "0x" + domain.escrow.hex(), types, cls.__name__, json_value(record))
    assert message.header == domain.separator
    assert message.body == struct_hash(record)
    assert hash_of(message) == digest(domain, record)


@pytest.mark.parametrize("case", VECTORS["signed"], ids=lambda case: case["primaryType"])
def test_vectors_are_signed_as_eth_account_signs(case):
    types = {t["primaryType"]: t["encodeType"] for t in VECTORS["types"]}
    domain = VECTORS["domains"][0]
    message = signable(
        domain["chainId"],
        domain["verifyingContract"],
        json_types(types[case["primaryType"]]),
        case["primaryType"],
        numbers(case["message"]),
    )
    signed = Account.sign_message(message, case["secret"])
    assert "0x" + signed.signature.hex() == case["signature"]
    assert "0x" + signed.message_hash.hex() == case["digest"]
    assert Account.from_key(case["secret"]).address.lower() == case["signer"]


def numbers(message):
    return {k: int(v) if isinstance(v, str) and v.isdigit() else v for k, v in message.items()} | {
        k: numbers(v) for k, v in message.items() if isinstance(v, dict)
    }


# ---- types, as the contracts spell them


@pytest.mark.parametrize(
    ("cls", "text"),
    [
        (
            Voucher,
            "Voucher(address payer,address lane,uint64 seq,uint64 epoch,uint128 cumulative,uint128 price,"
            "bytes32 receiptHash)",
        ),
        (
            PeerBinding,
            "PeerBinding(address owner,address sessionKey,bytes32 ed25519Key,uint64 notBefore,"
            "uint64 notAfter)",
        ),
        (
            Receipt,
            "Receipt(bytes32 requestHash,address payer,address lane,uint64 seq,uint64 epoch,uint32 step,"
            "bytes32 artefact,AdapterWeight[] adapters,uint32 promptTokens,uint32 outputTokens,"
            "bytes32 outputRoot,uint128 price,Shares shares,bytes32 details)"
            "AdapterWeight(bytes32 adapter,uint32 weightPpm)"
            "Shares(uint128 platform,uint128 worker,uint128 author,uint128 workPool,uint128 contributors)",
        ),
        (
            Zoo,
            "Zoo(uint8 smallNumber,string text,bytes content,bytes signature,string peer,bytes32 cid,"
            "Leaf leaf,Alpha[] alphas,address[] accounts)Alpha(Leaf leaf,string text)"
            "Leaf(bool flag,uint8 level,bytes16 short)",
        ),
    ],
)
def test_type_strings(cls, text):
    assert type_string(cls) == text


def test_optional_fields_cannot_be_signed():
    with pytest.raises(TypeError, match="may be None"):
        type_string(TokenChunk)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seq": 1 << 64}, "Voucher.seq"),
        ({"cumulative": 1 << 128}, "Voucher.cumulative"),
        ({"price": -1}, "Voucher.price"),
        ({"payer": b"\x01" * 19}, "Voucher.payer: 19 bytes; an account has 20"),
        ({"receipt_hash": b"\x01" * 33}, "Voucher.receipt_hash: 33 bytes"),
        ({"receipt_hash": None}, "Voucher.receipt_hash"),
        ({"epoch": "1"}, "Voucher.epoch"),
    ],
)
def test_values_outside_their_type_are_not_hashed(domain, change, words):
    with pytest.raises(LocalProtocolError, match=f"cannot hash {words}"):
        digest(domain, replace(VOUCHER, **change))


def test_a_wrong_record_inside_is_not_hashed(request_, domain):
    with pytest.raises(LocalProtocolError, match="Voucher where Sampling belongs"):
        digest(domain, replace(request_, sampling=VOUCHER))


# ---- signatures


def test_signers_are_recovered_and_required(domain, other_domain, session, owner):
    signature = sign(domain, session, VOUCHER)
    assert recover_signer(domain, VOUCHER, signature) == session.address
    require_signer(domain, VOUCHER, signature, session.address)
    for where, record, signer in (
        (other_domain, VOUCHER, session.address),
        (Domain(domain.chain_id, Address(bytes(20))), VOUCHER, session.address),
        (domain, replace(VOUCHER, price=5), session.address),
        (domain, VOUCHER, owner.address),
    ):
        with pytest.raises(InvalidSignature, match=r"Voucher is not signed by|belongs to no key"):
            require_signer(where, record, signature, signer)
