"""Bases, Datanets, adapters, payees and alias logs on chain."""

import dataclasses

import pytest

from commonlore.contracts.calling.records import AdapterRegistration, AliasLog, DatanetEntry
from commonlore.protocol.content.manifests import Split
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.ids import Address, checksummed, cid_of, keccak256

BASE, ADAPTER, CHILD = (cid_of(name) for name in (b"base", b"adapter", b"child"))
DATANET = DatanetEntry(keccak256(b"manifest"), keccak256(b"contributors"), keccak256(b"licence"))
SOMEONE = Address(keccak256(b"someone")[12:])


@pytest.fixture
def alice(network):
    return network.party("alice")


@pytest.fixture
def ready(alice):
    """Alice's registry with a base and a Datanet, and a registration of an adapter on them."""
    alice.chain.registry.register_base(BASE)
    record = alice.chain.registry.register_datanet("icd10", 1, DATANET)
    registration = AdapterRegistration(ADAPTER, BASE, (record,), (), DEFAULT_SPLIT, alice.owner.address)
    return alice.chain.registry, registration


def register(registry, registration, author):
    return registry.register_adapter(registration, registry.sign_adapter(registration, author.owner))


def test_bases_are_registered_once_and_repetition_is_harmless(network, alice):
    bob = network.party("bob")
    assert alice.chain.registry.base_registrant(BASE) is None
    alice.chain.registry.register_base(BASE)
    bob.chain.registry.register_base(BASE)
    assert bob.chain.registry.base_registrant(BASE) == alice.owner.address


def test_datanet_versions_follow_each_other(alice, tools):
    registry = alice.chain.registry
    with tools.refused("VersionNotNext"):
        registry.register_datanet("icd10", 2, DATANET)
    first = registry.register_datanet("icd10", 1, DATANET)
    second = registry.register_datanet("icd10", 2, dataclasses.replace(DATANET, manifest=keccak256(b"2")))
    assert registry.datanet(first) == DATANET
    assert registry.datanet(second).manifest == keccak256(b"2")
    assert registry.datanet(keccak256(b"none")) is None
    assert registry.datanet_version(alice.owner.address, "icd10") == 2
    with tools.refused("VersionNotNext"):
        registry.register_datanet("icd10", 2, DATANET)


def test_a_name_belongs_to_everyone_under_their_own_account(network, alice):
    bob = network.party("bob")
    mine = alice.chain.registry.register_datanet("icd10", 1, DATANET)
    his = bob.chain.registry.register_datanet("icd10", 1, DATANET)
    assert mine != his


def test_ill_made_datanets_are_refused(alice, tools):
    for name in ("", "x" * 65):
        with tools.refused("BadName"):
            alice.chain.registry.register_datanet(name, 1, DATANET)
    for field in ("manifest", "contributors_root"):
        with tools.refused("ZeroHash"):
            alice.chain.registry.register_datanet("a", 1, dataclasses.replace(DATANET, **{field: bytes(32)}))


def test_an_adapter_is_recorded_with_its_split_and_lineage(alice, ready, tools):
    registry, registration = ready
    record = register(registry, registration, alice)
    entry = registry.adapter(record)
    assert entry.split == DEFAULT_SPLIT
    assert entry.registered_at == tools.GENESIS + 1
    child = dataclasses.replace(registration, adapter=CHILD, parents=(record,))
    assert registry.adapter(register(registry, child, alice)).lineage != entry.lineage
    with tools.refused("AlreadyRegistered"):
        register(registry, registration, alice)
    assert registry.adapter(keccak256(b"none")) is None


def test_copying_a_registration_only_records_it_under_the_copiers_account(network, alice, ready):
    registry, registration = ready
    mallory = network.party("mallory")
    stolen = dataclasses.replace(registration, author_payee=mallory.owner.address)
    theft = register(mallory.chain.registry, stolen, mallory)
    assert register(registry, registration, alice) != theft


def test_an_adapter_needs_its_authors_signature(network, ready, tools):
    registry, registration = ready
    mallory = network.party("mallory")
    for wrong in (registry.sign_adapter(registration, mallory.owner), b""):
        with tools.refused("BadSignature"):
            registry.register_adapter(registration, wrong)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"base": CHILD}, "UnknownBase"),
        ({"datanets": (keccak256(b"x"),)}, "UnknownDatanet"),
        ({"parents": (keccak256(b"x"),)}, "UnknownParent"),
        ({"parents": (keccak256(b"x"),) * 9}, "TooMany"),
        ({"datanets": (keccak256(b"x"),) * 65}, "TooMany"),
        ({"split": Split(500, 3000, 1500, 1000, 3999)}, "BadSplit"),
        ({"split": Split(1001, 3000, 1500, 1000, 3499)}, "BadSplit"),
    ],
)
def test_ill_made_adapters_are_refused(ready, tools, change, reason):
    registry, registration = ready
    with tools.refused(reason):
        registry.register_adapter(dataclasses.replace(registration, **change), bytes(65))


def test_payees_rotate_for_good(network, alice, tools):
    bob = network.party("bob")
    registry = alice.chain.registry
    registry.rotate_payee(alice.owner, bob.owner.address)
    registry.rotate_payee(bob.owner, SOMEONE)
    assert registry.current_payee(alice.owner.address) == SOMEONE
    assert registry.current_payee(SOMEONE) == SOMEONE
    with tools.refused("AlreadyRotated"):
        registry.rotate_payee(alice.owner, SOMEONE)


def test_rotations_never_close_a_circle(network, alice, tools):
    bob = network.party("bob")
    registry = alice.chain.registry
    registry.rotate_payee(alice.owner, bob.owner.address)
    for successor in (alice.owner.address, bob.owner.address, Address(bytes(20))):
        with tools.refused("BadSuccessor"):
            registry.rotate_payee(bob.owner, successor)


def test_a_rotation_is_signed_by_the_old_payee(network, alice, tools):
    bob = network.party("bob")
    function = bob.chain.function(
        "Registry", "rotatePayee", checksummed(alice.owner.address), checksummed(SOMEONE), bytes(65)
    )
    with tools.refused("BadSignature"):
        bob.chain.send("rotate", function)


def test_an_alias_log_only_grows(alice, tools):
    registry, owner = alice.chain.registry, alice.owner.address
    first, second = AliasLog(keccak256(b"1"), 1), AliasLog(keccak256(b"2"), 3)
    registry.append_aliases(first, bytes(32))
    registry.append_aliases(second, first.head)
    assert registry.alias_log(owner) == second
    for log, previous in (
        (AliasLog(keccak256(b"3"), 4), first.head),
        (AliasLog(keccak256(b"3"), 3), second.head),
    ):
        with tools.refused("StaleAliasHead"):
            registry.append_aliases(log, previous)
    with tools.refused("ZeroHash"):
        registry.append_aliases(AliasLog(bytes(32), 4), second.head)
