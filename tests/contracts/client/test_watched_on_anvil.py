"""`commonlore watch`, as a person runs it, on anvil: a credit to somebody outside an adapter's lineage is
proved by it, and the lane's bond is slashed."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from commonlore.contracts.calling.records import AdapterRegistration
from commonlore.contracts.client.bonding import BondRole
from commonlore.contracts.client.registering import datanet_entry
from commonlore.contracts.staging.cast import ALICE, AUTHOR, BOB, LANE, MANIFEST, PAYER, key_of
from commonlore.peer.blobs.blob_store import BlobStore
from commonlore.peer.home import Home
from commonlore.peer.identity.keystore import Keystore
from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.content.manifests import DatanetManifest, Shard, ShardHeader
from commonlore.protocol.content.rows import contributors_root
from commonlore.protocol.content.splits import DEFAULT_SPLIT
from commonlore.protocol.encoding.codec import decode, encode, record_cid
from commonlore.protocol.encoding.fields import PPM
from commonlore.protocol.ids import cid_of
from commonlore.protocol.receipts.credits import RolePayees, compute_credits, compute_shares
from commonlore.protocol.receipts.records import Receipt, Weight
from commonlore.protocol.receipts.rules import make_voucher
from commonlore.protocol.settlement.commitments import EpochData, build_epoch
from commonlore.protocol.settlement.dishonest import FRIEND, Scene, plant
from commonlore.protocol.settlement.frauds import FraudKind
from commonlore.protocol.settlement.published import published_trees
from commonlore.protocol.settlement.settled import SettledReceipt, fold_earnings, pool_credits
from commonlore.protocol.signing.bindings import bind
from commonlore.protocol.signing.eip712 import sign
from commonlore.protocol.signing.keys import PeerKey

pytestmark = pytest.mark.npm
BOND, EPOCH = 1_000, 1_000


def shard_of(payee):
    header = ShardHeader(
        "icd", "one", bytes(32), payee, "CC0-1.0", "tests", "", 1, bytes(32), cid_of(b"rows")
    )
    return encode(Shard(header, bytes(64), bytes(65)))


SHARDS = tuple(map(shard_of, (ALICE, BOB)))
DATANET = DatanetManifest(
    "icd", "tests", "questions", "CC0-1.0", bytes(32), 1, None, tuple(map(cid_of, SHARDS)),
    contributors_root((ALICE, BOB)),
)  # fmt: skip
ADAPTER_MANIFEST = replace(MANIFEST, datanets=(record_cid(DATANET),))
ADAPTER = record_cid(ADAPTER_MANIFEST)


def register(client):
    registry = client.registry
    registry.register_base(ADAPTER_MANIFEST.base)
    record = registry.register_datanet("icd", 1, datanet_entry(record_cid(DATANET), DATANET))
    made = AdapterRegistration(ADAPTER, MANIFEST.base, (record,), (), DEFAULT_SPLIT, AUTHOR.address)
    registry.register_adapter(made, registry.sign_adapter(made, AUTHOR))


def answer(deployment, epoch, price):
    """A receipt by the adapter, its voucher, and what its contributors are due."""
    domain, shares = deployment.domain, compute_shares(price, DEFAULT_SPLIT)
    receipt = Receipt(
        bytes(32), PAYER.address, LANE.address, 1, epoch, 0, cid_of(b"artefact"),
        (AdapterWeight(ADAPTER, PPM),), 1, 1, bytes(32), price, shares, bytes(32),
    )  # fmt: skip
    voucher = make_voucher(domain, PAYER, receipt, None)
    payees = RolePayees(deployment.platform, LANE.address, AUTHOR.address, deployment.work_pool)
    credits = compute_credits(receipt, payees, [Weight(ALICE, PPM // 2), Weight(BOB, PPM // 2)])
    signed = (receipt, sign(domain, LANE, receipt), voucher.voucher, voucher.signature)
    return SettledReceipt(*signed, (AUTHOR.address,), credits), voucher


def post_a_lie(anvil):
    """Two commitments, of which the second pays a friend for the first one's receipts; what is published."""
    deployment, owner = anvil.deployment, key_of("client")
    client, lane = anvil.client(owner), anvil.client(LANE)
    anvil.mint(owner.address, 20_000)
    anvil.mint(LANE.address, BOND)
    lane.bonds.bond(BondRole.POSTER, BOND)
    client.deposit(10_000)
    now = client.chain_time()
    client.bind(bind(deployment.domain, owner, PAYER, PeerKey.generate(bytes(32)), now - 10, now + 10**7))
    register(anvil.client(AUTHOR))
    anvil.travel(EPOCH)  # what is registered in an epoch binds those after it
    epoch = client.epoch_at(client.chain_time())
    settled, voucher = answer(deployment, epoch, 9_000)
    lane.redeem([voucher])
    anvil.travel(EPOCH)
    first = build_epoch(deployment.domain, epoch, [settled], {}, ())
    lane.post_epoch(LANE.address, first.commitment)
    credits = pool_credits(first.receipts)
    later = client.epoch_at(client.chain_time())
    honest = build_epoch(deployment.domain, later, [], fold_earnings({}, credits), credits)
    scene = Scene(deployment.domain, PAYER, decode(EpochData, honest.data, 1 << 20))
    lie = plant(FraudKind.OUTSIDE_LINEAGE, scene)
    wrong = published_trees(deployment.domain, lie, encode(lie))
    anvil.travel(EPOCH)
    lane.post_epoch(LANE.address, wrong.commitment)
    return [first.data, wrong.data, encode(ADAPTER_MANIFEST), encode(DATANET), *SHARDS]


def test_a_credit_outside_the_lineage_is_proved_by_the_watch_command(anvil, tmp_path):
    published = post_a_lie(anvil)
    home, deployment = Home(tmp_path / "watcher").create(), tmp_path / "deployment.json"
    blobs = BlobStore(home.blobs, 1 << 30)
    for data in published:
        blobs.put_bytes(data)
    anvil.deployment.save(deployment)
    watcher = Keystore(home.keys).own().owner.address
    anvil.deployer.pay("fund", watcher, 10**18)
    command = [sys.executable, "-m", "commonlore.cli.main", "watch", "--json", "--home", home.path]
    command += ["--chain-url", anvil.url, "--deployment", deployment, "--set", "watch_interval_s=1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        reports = (json.loads(line) for line in process.stdout)
        acts = next(report["acts"] for report in reports if report["acts"])
        process.terminate()
        process.communicate(timeout=30)
    assert [act["what"] for act in acts] == [FraudKind.OUTSIDE_LINEAGE]
    assert FRIEND.hex() in acts[0]["said"]
    client = anvil.client(key_of("reader"))
    assert client.balance(watcher) == BOND // 2
    (standing,) = client.commitments(LANE.address)
    assert standing.commitment.receipt_count == 1, "the lie is taken back, and what it lied about stands"
    (killed,) = client.postings.killed()
    assert (killed.challenger, killed.slashed) == (watcher, BOND)
