"""Who and what is on the stage: accounts by name, two adapters with their Datanets, the terms of play."""

from __future__ import annotations

from dataclasses import replace

from ...protocol.content.lineage import Ancestor, Lineage
from ...protocol.content.manifests import AdapterManifest, PriorWeight, Recipe
from ...protocol.content.splits import DEFAULT_SPLIT
from ...protocol.encoding.codec import record_cid
from ...protocol.encoding.fields import PPM
from ...protocol.ids import cid_of, digest_of, keccak256
from ...protocol.settlement.epoch_leaves import pool_of
from ...protocol.signing.keys import AccountKey
from ..client.registering import datanet_record_id
from ..deploying.terms import Terms

START = 1_800_000_000
TERMS = Terms(epoch_length=1_000, window=500, grace=100, minimum_bond=100, pot_per_bond=100)
FOREVER = 1 << 40
BOND = 1_000
FUNDS = 10**9


def key_of(name: str) -> AccountKey:
    """An account of the stage by its name."""
    return AccountKey.from_secret(keccak256(f"stage {name}".encode()))


CLIENT, PAYER, LANE = key_of("client"), key_of("payer"), key_of("lane")
AUTHOR, CURATOR, SECOND_AUTHOR = key_of("author"), key_of("curator"), key_of("second author")
PLATFORM, POOL_ACCOUNT = key_of("platform").address, key_of("pool").address
WATCHER, SUCCESSOR = key_of("watcher").address, key_of("successor").address
GUARDIAN = key_of("guardian").address
ALICE, BOB, CAROL = sorted(key_of(name).address for name in ("alice", "bob", "carol"))
BASE = cid_of(b"stage base")
MANIFEST = AdapterManifest(
    name="stage",
    base=BASE,
    weights=cid_of(b"stage weights"),
    weights_size=1,
    rank=8,
    alpha=16,
    targets=("q_proj",),
    template=bytes(32),
    datanets=(cid_of(b"stage Datanet"),),
    recipe=Recipe("stage", 1, 1, 1, 8, 16, 0, 1, "fp32", "{question}"),
    early_checkpoint=None,
    factors=None,
    split=DEFAULT_SPLIT,
    priors=(PriorWeight(ALICE, 300_000), PriorWeight(BOB, 700_000)),
    licence="CC0-1.0",
    author=bytes(32),
    author_payee=AUTHOR.address,
)
ADAPTER = record_cid(MANIFEST)
ADAPTER_POOL = pool_of(AUTHOR.address, digest_of(ADAPTER))
DATANET = datanet_record_id(CURATOR.address, "stage", 1)
LINEAGE = Lineage((Ancestor(ADAPTER_POOL, (DATANET,), ()),), {DATANET: (ALICE, BOB)})
SECOND_MANIFEST = replace(
    MANIFEST, name="second", priors=(PriorWeight(CAROL, PPM),), author_payee=SECOND_AUTHOR.address
)
SECOND = record_cid(SECOND_MANIFEST)
SECOND_POOL = pool_of(SECOND_AUTHOR.address, digest_of(SECOND))
SECOND_DATANET = datanet_record_id(CURATOR.address, "second", 1)
SECOND_LINEAGE = Lineage((Ancestor(SECOND_POOL, (SECOND_DATANET,), ()),), {SECOND_DATANET: (CAROL,)})
"""A second adapter, of another author and another contributor."""
MANIFESTS = {ADAPTER: MANIFEST, SECOND: SECOND_MANIFEST}
