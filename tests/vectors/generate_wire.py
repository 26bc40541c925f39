"""Writes cbor.json, eip712.json, bindings.json and rows.json beside this file.

Run: `python tests/vectors/generate_wire.py`.

They pin the wire: what other implementations (Solidity first) must hash, sign and encode alike. Bytes are
hexadecimal, amounts beyond 2^53 decimal strings, EIP-712 members in camelCase. Secrets are fixed, signatures
deterministic. A change of a committed vector is a change of the protocol.
"""

import json
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

from commonlore.protocol.content.blob_names import BlobManifest
from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.content.manifests import (
    AdapterManifest,
    Merge,
    PriorWeight,
    Recipe,
    Row,
    ShardHeader,
    Split,
)
from commonlore.protocol.content.rows import (
    contributors_root,
    encode_rows,
    row_hash,
    rows_cid,
    rows_root,
    sign_shard,
)
from commonlore.protocol.encoding.codec import encode, encode_value, record_cid
from commonlore.protocol.gossip.adverts import AdapterRecord, PeerAd
from commonlore.protocol.ids import Address, Cid, cid_of, digest_of
from commonlore.protocol.inference.messages import TokenChunk, TokenLogprob
from commonlore.protocol.receipts.records import Receipt, Shares, Voucher
from commonlore.protocol.requests.records import ChatMessage, InferenceRequest, Prompt, Sampling
from commonlore.protocol.requests.rules import compute_prompt_root, prompt_bytes
from commonlore.protocol.signing import eip712
from commonlore.protocol.signing.bindings import PeerBinding, bind
from commonlore.protocol.signing.eip712 import Domain, camel_case
from commonlore.protocol.signing.keys import AccountKey, PeerKey

HERE = Path(__file__).parent
DOMAIN = Domain(31_337, Address(bytes.fromhex("e5" * 20)))
MAINNET = Domain(1, Address(bytes.fromhex("0123456789abcdef0123456789abcdef01234567")))
OWNER = AccountKey.from_secret(b"\x01" * 32)
SESSION = AccountKey.from_secret(b"\x02" * 32)
LANE = AccountKey.from_secret(b"\x07" * 32)
PEER = PeerKey.generate(b"\x03" * 32)
ADAPTERS = (AdapterWeight(cid_of(b"a"), 400_000), AdapterWeight(cid_of(b"b"), 600_000))
SAMPLING = Sampling(seed=2**64 - 1, max_tokens=64, temperature_ppm=700_000)


def plain(value: object) -> object:
    """Any field as JSON: bytes in hexadecimal, records as objects under their own field names."""
    match value:
        case bool() | None | str():
            return value
        case bytes():
            return value.hex()
        case int():
            return value if value < 2**53 else str(value)
        case tuple():
            return [plain(item) for item in value]
        case _:
            return {f.name: plain(getattr(value, f.name)) for f in fields(value)}


def solidity(value: object) -> object:
    """Any field as EIP-712 JSON: camelCase members, a CID as its digest, bytes with 0x."""
    match value:
        case str() if len(value) == 59 and value.startswith("bafk"):
            return "0x" + digest_of(Cid(value)).hex()
        case bytes():
            return "0x" + value.hex()
        case tuple():
            return [solidity(item) for item in value]
        case _ if is_dataclass(value):
            return {camel_case(f.name): solidity(getattr(value, f.name)) for f in fields(value)}
        case _:
            return plain(value)


# ---- cbor.json

VALUES = [
    None, True, 0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**53, -1, -24, -25, -256, -(2**32) - 1,
    "", "a", "é", "\U00010151", [], [1, [2, [3]]], {}, {"b": 1, "a": 2, "aa": 0, "": 3},
]  # fmt: skip

TRAINED = AdapterManifest(
    name="icd",
    base=cid_of(b"base"),
    weights=cid_of(b"weights"),
    weights_size=4_939_072,
    rank=8,
    alpha=16,
    targets=("o_proj", "q_proj"),
    template=b"\x10" * 32,
    datanets=(cid_of(b"datanet"),),
    recipe=Recipe("a trainer", 40, 8, 8_000_000, 8, 16, 0, 1, "bf16", "user: {question}"),
    early_checkpoint=cid_of(b"early"),
    factors=None,
    split=Split(500, 3000, 1500, 1000, 4000),
    priors=(PriorWeight(OWNER.address, 600_000), PriorWeight(SESSION.address, 400_000)),
    licence="CC0-1.0",
    author=PEER.public,
    author_payee=OWNER.address,
)
MERGED = replace(
    TRAINED,
    early_checkpoint=None,
    parents=tuple(part.adapter for part in ADAPTERS),
    merge=Merge("dare_ties", ADAPTERS, 500_000, 7),
    selection=cid_of(b"selection"),
)

RECORDS = [
    PeerAd("client", ("/ip4/127.0.0.1/tcp/4001",), 3, 1_900_000_000_000),
    AdapterRecord("ada/icd", cid_of(b"a"), cid_of(b"base"), None, b"\x11" * 32, 4_600_000, 1_600_000, 1, 2),
    BlobManifest(262_145, 262_144, (b"\x01" * 32, b"\x02" * 32)),
    Split(500, 3000, 1500, 1000, 4000),
    SAMPLING,
    Voucher(SESSION.address, LANE.address, 1, 3, 2**128 - 1, 10**18, b"\x0c" * 32),
    TRAINED,
    MERGED,
    TokenChunk(32, (0, 49_151), "é", b"\x0d" * 32, (TokenLogprob(5, 1_000_000),)),
]

REFUSED = [
    ("9f01ff", "indefinite length"),
    ("1817", "an integer head longer than needed"),
    ("a2616200616101", "unsorted keys"),
    ("a2616100616101", "the same key twice"),
    ("a10000", "a key that is not text"),
    ("f93c00", "a float"),
    ("f7", "undefined"),
    ("c11a514b67b0", "a tag"),
    ("0000", "a trailing byte"),
    ("43aa", "cut"),
    ("61ff", "invalid UTF-8"),
    ("81" * 17 + "01", "nested deeper than 16"),
]


def cbor() -> dict:
    return {
        "values": [{"value": value, "encoded": encode_value(value).hex()} for value in VALUES],
        "records": [record_case(record) for record in RECORDS],
        "refused": [{"encoded": encoded, "why": why} for encoded, why in REFUSED],
    }


def record_case(record) -> dict:
    named = {"record": type(record).__name__, "fields": plain(record)}
    return {**named, "encoded": encode(record).hex(), "cid": record_cid(record)}


# ---- eip712.json

PROMPT = Prompt(
    b"\x05" * 32,
    (ChatMessage("system", "Answer with the code."), ChatMessage("user", "Fracture of the ulna? " * 120)),
    ("\n",),
    (5, 6, 7),
)
REQUEST = InferenceRequest(
    request_id=bytes(range(16)),
    payer=SESSION.address,
    lane=LANE.address,
    base=cid_of(b"base"),
    adapters=ADAPTERS,
    prompt_root=compute_prompt_root(PROMPT),
    sampling=SAMPLING,
    advert_hash=b"\x0a" * 32,
    max_price=10**18,
    epoch=3,
    deadline=1_900_000_060,
    disclosure=1,
)
RECEIPT = Receipt(
    request_hash=eip712.digest(DOMAIN, REQUEST),
    payer=SESSION.address,
    lane=LANE.address,
    seq=1,
    epoch=3,
    step=0,
    artefact=cid_of(b"artefact"),
    adapters=ADAPTERS,
    prompt_tokens=40,
    output_tokens=12,
    output_root=b"\x0b" * 32,
    price=10_000,
    shares=Shares(500, 3000, 1500, 1000, 4000),
    details=b"\x0c" * 32,
)
SIGNED = [
    (OWNER, PeerBinding(OWNER.address, SESSION.address, PEER.public, 1_900_000_000, 1_900_100_000)),
    (SESSION, REQUEST),
    (
        SESSION,
        InferenceRequest(**{f.name: getattr(REQUEST, f.name) for f in fields(REQUEST)} | {"adapters": ()}),
    ),
    (LANE, RECEIPT),
    (SESSION, Voucher(SESSION.address, LANE.address, 1, 3, 10_000, 10_000, eip712.digest(DOMAIN, RECEIPT))),
    (SESSION, Voucher(SESSION.address, LANE.address, 2**64 - 1, 4, 2**128 - 1, 1, b"\xff" * 32)),
]


def signed_case(key: AccountKey, record) -> dict:
    digest = eip712.digest(DOMAIN, record)
    return {
        "primaryType": type(record).__name__,
        "message": solidity(record),
        "structHash": "0x" + eip712.struct_hash(record).hex(),
        "digest": "0x" + digest.hex(),
        "secret": "0x" + key.secret.hex(),
        "signer": "0x" + key.address.hex(),
        "signature": "0x" + key.sign_digest(digest).hex(),
    }


def domain_case(domain: Domain) -> dict:
    named = {"name": eip712.NAME, "version": eip712.VERSION, "chainId": domain.chain_id}
    return {
        **named,
        "verifyingContract": "0x" + domain.escrow.hex(),
        "separator": "0x" + domain.separator.hex(),
    }


def type_case(cls: type) -> dict:
    named = {"primaryType": cls.__name__, "encodeType": eip712.type_string(cls)}
    return {**named, "typeHash": "0x" + eip712.type_hash(cls).hex()}


def typed() -> dict:
    classes = (PeerBinding, InferenceRequest, Receipt, Voucher, ShardHeader, Shares, Sampling, AdapterWeight)
    return {
        "domains": [domain_case(DOMAIN), domain_case(MAINNET)],
        "types": [type_case(cls) for cls in classes],
        "signed": [signed_case(key, record) for key, record in SIGNED],
        "prompts": [
            {
                "fields": plain(PROMPT),
                "bytes": prompt_bytes(PROMPT).hex(),
                "root": compute_prompt_root(PROMPT).hex(),
            }
        ],
    }


# ---- bindings.json


def binding_case(domain: Domain, owner: int, session: int, times: tuple[int, int]) -> dict:
    keys = AccountKey.from_secret(bytes([owner]) * 32), AccountKey.from_secret(bytes([session]) * 32)
    signed = bind(domain, *keys, PEER, *times)
    return {
        "chainId": domain.chain_id,
        "escrow": "0x" + domain.escrow.hex(),
        "binding": solidity(signed.binding),
        "digest": "0x" + eip712.digest(domain, signed.binding).hex(),
        "ownerSignature": "0x" + signed.owner_signature.hex(),
        "sessionSignature": "0x" + signed.session_signature.hex(),
        "ed25519Signature": "0x" + signed.ed25519_signature.hex(),
    }


def bindings() -> dict:
    times = (1_900_000_000, 1_900_100_000)
    return {
        "bindings": [
            binding_case(DOMAIN, 1, 2, times),
            binding_case(DOMAIN, 4, 5, (0, 2**53 - 1)),
            binding_case(MAINNET, 1, 2, times),
        ]
    }


# ---- rows.json

ROWS = [
    Row("Which code has a fracture of the ulna?", "S52.209A", b"\x21" * 32),
    Row("Was ist „Grippe“?", "J11.1", b"\x22" * 32),
    Row("q" * 300, "a", b"\x23" * 32),
]


def header_of(rows: list[Row], payee: AccountKey) -> ShardHeader:
    return ShardHeader(
        datanet="icd10/1",
        contributor="ada",
        ed25519_key=PEER.public,
        payee=payee.address,
        licence="CC0-1.0",
        origin="made up for tests",
        notice="",
        row_count=len(rows),
        rows_root=rows_root(rows),
        rows=rows_cid(rows),
    )


def shard_case(rows: list[Row]) -> dict:
    shard = sign_shard(DOMAIN, header_of(rows, OWNER), PEER, OWNER)
    return {
        "rows": [{**plain(row), "hash": row_hash(row).hex()} for row in rows],
        "encoded": encode_rows(rows).hex(),
        "header": plain(shard.header),
        "headerDigest": eip712.digest(DOMAIN, shard.header).hex(),
        "ed25519Signature": shard.ed25519_signature.hex(),
        "payeeSignature": shard.payee_signature.hex(),
        "cid": record_cid(shard),
    }


def contributors_case(payees: list[Address]) -> dict:
    return {"payees": [payee.hex() for payee in payees], "root": contributors_root(payees).hex()}


def rows() -> dict:
    payees = [OWNER.address, SESSION.address, LANE.address]
    return {
        "shards": [shard_case(ROWS[:count]) for count in (1, 2, 3)],
        "contributors": [
            contributors_case(case) for case in ([], payees[:1], payees, [*payees, *payees[:1]])
        ],
    }


FILES = {"cbor.json": cbor, "eip712.json": typed, "bindings.json": bindings, "rows.json": rows}


def render(content: dict) -> str:
    """One case a line, so that a change is a readable diff."""
    sections = [
        json.dumps(key) + ": [\n" + ",\n".join("  " + json.dumps(case) for case in cases) + "\n]"
        for key, cases in content.items()
    ]
    return "{\n" + ",\n".join(sections) + "\n}\n"


if __name__ == "__main__":
    for name, make in FILES.items():
        (HERE / name).write_text(render(make()))
