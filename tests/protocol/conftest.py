"""Samples for the protocol's tests: fixed keys, a deployment, one record of each kind that matters, and a
strategy that makes any record from its shapes.
"""

from collections.abc import Callable
from dataclasses import is_dataclass

import pytest
from hypothesis import strategies as st

from commonlore.protocol.content import manifests
from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.content.splits import BASE_SPLIT
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.encoding.shapes import (
    AddressShape,
    BoolShape,
    BytesShape,
    CidShape,
    EnumShape,
    OptionalShape,
    PeerIdShape,
    RecordShape,
    Shape,
    TextShape,
    TupleShape,
    UintShape,
    shapes_of,
)
from commonlore.protocol.gossip import adverts
from commonlore.protocol.gossip.adverts import Rates, WorkerAd
from commonlore.protocol.ids import DAG_CBOR, RAW, Address, cid_of, cid_of_digest, peer_id_of
from commonlore.protocol.inference import messages
from commonlore.protocol.receipts import records as receipts
from commonlore.protocol.requests import records as requests
from commonlore.protocol.requests.records import (
    ChatMessage,
    Disclosure,
    InferenceRequest,
    Prompt,
    Sampling,
    SignedRequest,
)
from commonlore.protocol.requests.rules import compute_prompt_root, sign_request
from commonlore.protocol.signing.bindings import SignedBinding, bind
from commonlore.protocol.signing.eip712 import Domain
from commonlore.protocol.signing.keys import AccountKey, PeerKey

NOW = 1_900_000_000
LANE_KEY = AccountKey.from_secret(b"\x07" * 32)


@pytest.fixture(scope="session")
def now() -> int:
    return NOW


@pytest.fixture(scope="session")
def domain() -> Domain:
    return Domain(31_337, Address(b"\xe5" * 20))


@pytest.fixture(scope="session")
def other_domain() -> Domain:
    return Domain(31_338, Address(b"\xe5" * 20))


@pytest.fixture(scope="session")
def owner() -> AccountKey:
    return AccountKey.from_secret(b"\x01" * 32)


@pytest.fixture(scope="session")
def session() -> AccountKey:
    return AccountKey.from_secret(b"\x02" * 32)


@pytest.fixture(scope="session")
def peer_key() -> PeerKey:
    return PeerKey.generate(b"\x03" * 32)


@pytest.fixture(scope="session")
def lane() -> Address:
    return LANE_KEY.address


@pytest.fixture(scope="session")
def binding(domain: Domain, owner: AccountKey, session: AccountKey, peer_key: PeerKey) -> SignedBinding:
    return bind(domain, owner, session, peer_key, NOW - 1000, NOW + 100_000)


@pytest.fixture(scope="session")
def worker_ad(binding: SignedBinding, peer_key: PeerKey) -> WorkerAd:
    return WorkerAd(
        binding=binding,
        base=cid_of(b"base"),
        artefact=cid_of(b"artefact"),
        rates=Rates(1_000, 2_000, 5),
        base_split=BASE_SPLIT,
        max_context=2_048,
        max_batch=8,
        queue_depth=1,
        running=2,
        free_pages=300,
        resident=(cid_of(b"adapter 1"), cid_of(b"adapter 2")),
        resident_count=2,
        max_rank=16,
        addresses=(f"/ip4/127.0.0.1/tcp/4001/p2p/{peer_key.peer_id}",),
        seq=7,
        issued_ms=NOW * 1000,
    )


@pytest.fixture(scope="session")
def prompt() -> Prompt:
    return Prompt(b"\x05" * 32, (ChatMessage("user", "Which code has a broken arm? " * 100),), ("\n\n",))


@pytest.fixture(scope="session")
def request_(session: AccountKey, lane: Address, prompt: Prompt) -> InferenceRequest:
    return InferenceRequest(
        request_id=b"\x09" * 16,
        payer=session.address,
        lane=lane,
        base=cid_of(b"base"),
        adapters=(AdapterWeight(cid_of(b"a"), 400_000), AdapterWeight(cid_of(b"b"), PPM - 400_000)),
        prompt_root=compute_prompt_root(prompt),
        sampling=Sampling(seed=7, max_tokens=64),
        advert_hash=b"\x0a" * 32,
        max_price=10**18,
        epoch=3,
        deadline=NOW + 60,
        disclosure=Disclosure.AUDIT,
    )


@pytest.fixture(scope="session")
def signed_request(
    domain: Domain,
    session: AccountKey,
    request_: InferenceRequest,
    binding: SignedBinding,
    prompt: Prompt,
) -> SignedRequest:
    return sign_request(domain, session, request_, binding, prompt)


# ---- any record at all

MODULES = (adverts, manifests, messages, receipts, requests)
RECORDS = [
    thing
    for module in MODULES
    for thing in vars(module).values()
    if is_dataclass(thing) and thing.__module__ == module.__name__
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that asks for `record_class` runs once for every record of the wire."""
    if "record_class" in metafunc.fixturenames:
        metafunc.parametrize("record_class", RECORDS, ids=lambda cls: cls.__name__)


@pytest.fixture(scope="session")
def records() -> Callable[[type], st.SearchStrategy]:
    """The strategy that makes records of a class."""
    return records_of


def records_of(cls: type) -> st.SearchStrategy:
    return st.builds(cls, **{name: values_of(shape) for name, shape in shapes_of(cls)})


def values_of(shape: Shape) -> st.SearchStrategy:
    """Values that fit a shape, small ones: the limits are tested one by one."""
    match shape:
        case BoolShape():
            return st.booleans()
        case UintShape(bits):
            return st.integers(0, (1 << bits) - 1)
        case EnumShape(cls):
            return st.sampled_from(cls)
        case BytesShape(low, high):
            return st.binary(min_size=low, max_size=min(high, low + 40))
        case TextShape(low, high):
            return st.text(min_size=low, max_size=max(low, min(high // 4, 20)))
        case AddressShape():
            return st.binary(min_size=20, max_size=20).map(Address)
        case CidShape():
            return st.builds(
                cid_of_digest, st.binary(min_size=32, max_size=32), st.sampled_from((RAW, DAG_CBOR))
            )
        case PeerIdShape():
            return st.binary(min_size=32, max_size=32).map(peer_id_of)
        case RecordShape(cls):
            return records_of(cls)
        case OptionalShape(inner):
            return st.none() | values_of(inner)
        case TupleShape(inner, low, high):
            return st.lists(values_of(inner), min_size=low, max_size=min(high, low + 3)).map(tuple)
