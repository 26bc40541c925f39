"""What Python hashes is what Solidity hashes: digests, leaves, roots, commitments, record ids."""

import pytest

from commonlore.contracts.calling.records import AdapterRegistration
from commonlore.contracts.calling.tuples import commitment_tuple, split_tuple, voucher_tuple
from commonlore.contracts.client.registering import adapter_record_id, datanet_record_id
from commonlore.protocol.content.manifests import Split
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.encoding.merkle import MerkleSumTree
from commonlore.protocol.ids import Address, checksummed, cid_of, digest_of, keccak256
from commonlore.protocol.receipts.records import SignedVoucher, Voucher
from commonlore.protocol.settlement.commitments import commitment_hash, earnings_leaf
from commonlore.protocol.signing.bindings import PeerBinding
from commonlore.protocol.signing.eip712 import digest, struct_hash, type_hash

ALICE, BOB = (Address(keccak256(name)[12:]) for name in (b"alice", b"bob"))
LARGEST = Voucher(ALICE, BOB, 2**64 - 1, 2**64 - 1, 2**128 - 1, 2**128 - 1, keccak256(b"receipt"))
ORDINARY = Voucher(BOB, ALICE, 7, 3, 1_000, 10, bytes(32))
BINDING = PeerBinding(ALICE, BOB, keccak256(b"ed25519"), 1, 2**64 - 1)
REGISTRATION = AdapterRegistration(
    cid_of(b"adapter"),
    cid_of(b"base"),
    (keccak256(b"a"), keccak256(b"b")),
    (keccak256(b"c"),),
    DEFAULT_SPLIT,
    ALICE,
)


@pytest.fixture
def solidity(shared_network):
    """Calls a view of a contract."""
    client = shared_network.client()

    def call(contract, name, *arguments):
        return client.endpoint.read(name, client.function(contract, name, *arguments))

    return call


def test_the_domain(shared_network, solidity):
    assert solidity("Escrow", "domainSeparator") == shared_network.domain.separator
    fields = solidity("Escrow", "eip712Domain")
    assert fields[1:5] == [
        "Commonlore",
        "1",
        shared_network.domain.chain_id,
        checksummed(shared_network.domain.escrow),
    ]


@pytest.mark.parametrize("voucher", [LARGEST, ORDINARY])
def test_vouchers(shared_network, solidity, voucher):
    assert solidity("Escrow", "VOUCHER_TYPEHASH") == type_hash(Voucher)
    signed = SignedVoucher(voucher, bytes(65))
    assert solidity("Escrow", "voucherDigest", voucher_tuple(signed)) == digest(
        shared_network.domain, voucher
    )


def test_bindings(shared_network, solidity):
    assert solidity("Escrow", "BINDING_TYPEHASH") == type_hash(PeerBinding)
    fields = (
        checksummed(ALICE),
        checksummed(BOB),
        BINDING.ed25519_key,
        BINDING.not_before,
        BINDING.not_after,
    )
    assert solidity("Escrow", "bindingDigest", fields) == digest(shared_network.domain, BINDING)


def test_adapter_registrations(solidity):
    assert solidity("Registry", "SPLIT_TYPEHASH") == type_hash(Split)
    assert solidity("Registry", "ADAPTER_TYPEHASH") == type_hash(AdapterRegistration)
    fields = (
        digest_of(REGISTRATION.adapter),
        digest_of(REGISTRATION.base),
        list(REGISTRATION.datanets),
        list(REGISTRATION.parents),
        split_tuple(REGISTRATION.split),
        checksummed(ALICE),
    )
    assert solidity("Registry", "adapterStructHash", fields) == struct_hash(REGISTRATION)


def test_record_ids(solidity):
    adapter = cid_of(b"adapter")
    assert solidity(
        "Registry", "adapterRecordId", checksummed(ALICE), digest_of(adapter)
    ) == adapter_record_id(ALICE, adapter)
    assert solidity("Registry", "datanetRecordId", checksummed(BOB), "ICD-10", 7) == datanet_record_id(
        BOB, "ICD-10", 7
    )


def test_commitments(solidity, tools):
    commitment = tools.commitment(2**64 - 1, 2**128 - 1, tools.Earnings({ALICE: 5, BOB: 2**100}))
    assert solidity("Settlement", "commitmentHash", commitment_tuple(commitment)) == commitment_hash(
        commitment
    )


def test_leaves(solidity):
    assert (
        solidity("Settlement", "earningsLeaf", checksummed(ALICE), 2**128 - 1)
        == earnings_leaf(ALICE, 2**128 - 1).hash
    )
    parts = [keccak256(bytes([i])) for i in range(4)]
    assert solidity("Settlement", "receiptLeaf", *parts) == keccak256(b"\x00" + b"".join(parts))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 33])
def test_merkle_sum_proofs(solidity, count):
    leaves = [(keccak256(bytes([i])), 10**i if i < 30 else i) for i in range(count)]
    tree = MerkleSumTree(leaves)
    for index in {0, count // 2, count - 1}:
        path = [(step.hash, step.amount) for step in tree.proof(index)]
        root, total = solidity("Settlement", "climb", *leaves[index], index, count, path)
        assert (root, total) == (tree.root, tree.total)
