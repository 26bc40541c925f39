"""What the Registry refuses, on revm: its front-running, its references, its bounds, its logs."""

from dataclasses import replace

import pytest

from commonlore.contracts.calling.records import AdapterRegistration, PayeeRotation
from commonlore.contracts.calling.tuples import split_tuple
from commonlore.contracts.client.registering import adapter_record_id, datanet_record_id
from commonlore.contracts.staging.cast import AUTHOR, BASE, CURATOR, WATCHER, key_of
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.ids import Address, checksummed, cid_of, digest_of, keccak256
from commonlore.protocol.signing.eip712 import sign

DATANET = datanet_record_id(CURATOR.address, "stage", 1)
NEW = cid_of(b"another adapter")


def refuse(stage, sender, name, *arguments):
    return stage.network.refusal(sender, "Registry", name, *arguments)


def registration(adapter=NEW, signer=AUTHOR, **changes):
    made = AdapterRegistration(adapter, BASE, (DATANET,), (), DEFAULT_SPLIT, AUTHOR.address)
    return replace(made, **changes), signer


def register(stage, made, signer, sender=WATCHER):
    fields = (
        digest_of(made.adapter),
        digest_of(made.base),
        list(made.datanets),
        list(made.parents),
        split_tuple(made.split),
        checksummed(made.author_payee),
    )
    return refuse(stage, sender, "registerAdapter", fields, sign(stage.domain, signer, made))


def test_whoever_copies_a_registration_records_it_under_the_authors_name_or_their_own(stage):
    mine, signer = registration()
    assert register(stage, mine, signer, key_of("front runner").address) is None
    assert register(stage, mine, signer) == "AlreadyRegistered"
    own = adapter_record_id(AUTHOR.address, NEW)
    assert stage.network.read("Registry", "adapters", own)[3] == stage.network.now
    thief = key_of("front runner")
    stolen, _ = registration(author_payee=thief.address)
    assert register(stage, stolen, thief) is None
    assert adapter_record_id(thief.address, NEW) != own


@pytest.mark.parametrize(
    ("change", "signer", "error"),
    [
        ({}, key_of("somebody"), "BadSignature"),
        ({"base": cid_of(b"unknown")}, AUTHOR, "UnknownBase"),
        ({"datanets": (keccak256(b"unknown"),)}, AUTHOR, "UnknownDatanet"),
        ({"parents": (keccak256(b"unknown"),)}, AUTHOR, "UnknownParent"),
        ({"parents": (adapter_record_id(AUTHOR.address, NEW),)}, AUTHOR, "UnknownParent"),
        ({"datanets": (DATANET,) * 65}, AUTHOR, "TooMany"),
        ({"parents": (DATANET,) * 9}, AUTHOR, "TooMany"),
        ({"split": replace(DEFAULT_SPLIT, worker=3_001)}, AUTHOR, "BadSplit"),
        ({"split": replace(DEFAULT_SPLIT, platform=1_500, worker=2_000)}, AUTHOR, "BadSplit"),
    ],
)
def test_adapters_that_refer_to_nothing_or_divide_wrongly_are_refused(stage, change, signer, error):
    assert register(stage, *registration(signer=signer, **change)) == error


def test_bases_and_what_is_loaded_of_them(stage):
    artefact, base = keccak256(b"int4"), digest_of(BASE)
    assert refuse(stage, WATCHER, "registerBase", bytes(32)) == "ZeroHash"
    assert refuse(stage, WATCHER, "registerBase", base) is None
    assert stage.network.read("Registry", "bases", base) == checksummed(AUTHOR.address).lower()
    assert refuse(stage, WATCHER, "registerArtefact", bytes(32), base) == "ZeroHash"
    assert refuse(stage, WATCHER, "registerArtefact", artefact, artefact) == "UnknownBase"
    assert refuse(stage, WATCHER, "registerArtefact", artefact, base) is None
    assert refuse(stage, WATCHER, "registerArtefact", artefact, base) == "AlreadyRegistered"
    assert stage.network.read("Registry", "artefacts", checksummed(WATCHER), artefact) == base
    assert refuse(stage, AUTHOR.address, "registerArtefact", artefact, base) is None


def test_versions_of_a_datanet_follow_each_other(stage):
    fields = (keccak256(b"manifest"), keccak256(b"root"), bytes(32))
    for version, error in ((1, "VersionNotNext"), (3, "VersionNotNext"), (2, None)):
        assert refuse(stage, CURATOR.address, "registerDatanet", "stage", version, fields) == error
    assert refuse(stage, WATCHER, "registerDatanet", "stage", 1, fields) is None
    assert refuse(stage, WATCHER, "registerDatanet", "", 1, fields) == "BadName"
    assert refuse(stage, WATCHER, "registerDatanet", "n" * 65, 1, fields) == "BadName"
    for empty in ((bytes(32), *fields[1:]), (fields[0], bytes(32), fields[2])):
        assert refuse(stage, WATCHER, "registerDatanet", "other", 1, empty) == "ZeroHash"


def test_payees_rotate_once_by_their_own_signature_and_in_no_circle(stage):
    old, new = key_of("old"), key_of("new")

    def rotate(previous, following: Address, signer):
        signature = sign(stage.domain, signer, PayeeRotation(previous.address, following))
        call = (checksummed(previous.address), checksummed(following), signature)
        return refuse(stage, WATCHER, "rotatePayee", *call)

    assert rotate(old, new.address, new) == "BadSignature"
    assert rotate(old, old.address, old) == "BadSuccessor"
    assert rotate(old, Address(bytes(20)), old) == "BadSuccessor"
    assert rotate(old, new.address, old) is None
    assert rotate(old, WATCHER, old) == "AlreadyRotated"
    assert rotate(new, old.address, new) == "BadSuccessor"
    assert rotate(new, WATCHER, new) is None
    paid = stage.network.read("Registry", "currentPayee", checksummed(old.address))
    assert paid == checksummed(WATCHER).lower()


def test_alias_logs_only_grow(stage):
    first, second = keccak256(b"1"), keccak256(b"2")
    for previous, head, length, error in (
        (bytes(32), bytes(32), 1, "ZeroHash"),
        (first, second, 1, "StaleAliasHead"),
        (bytes(32), first, 2, None),
        (bytes(32), second, 3, "StaleAliasHead"),
        (first, second, 2, "StaleAliasHead"),
        (first, second, 3, None),
    ):
        assert refuse(stage, WATCHER, "appendAliases", previous, head, length) == error
