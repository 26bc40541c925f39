"""A lane on revm that serves, redeems and posts, with all it needs: for tests, figures and planted bugs.

One payer, an adapter of two contributors and one of a third registered on chain, a lane whose key speaks and
posts for itself, a watcher with an account. What it posts is honest unless other data is given to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..protocol.content.compositions import AdapterWeight
from ..protocol.content.lineage import Ancestor, Lineage
from ..protocol.content.manifests import AdapterManifest, PriorWeight, Recipe
from ..protocol.content.rows import contributors_root
from ..protocol.content.splits import BASE_SPLIT, DEFAULT_SPLIT
from ..protocol.encoding.codec import encode, record_cid
from ..protocol.encoding.fields import PPM
from ..protocol.ids import Address, Cid, checksummed, cid_of, digest_of, keccak256
from ..protocol.receipts.credits import RolePayees, compute_shares, divide_shares
from ..protocol.receipts.parts import receipt_parts
from ..protocol.receipts.records import Credit, Receipt, SignedVoucher, Weight
from ..protocol.receipts.rules import make_voucher
from ..protocol.settlement.commitments import EpochData, EpochTrees, build_epoch, published_trees
from ..protocol.settlement.dishonest import Scene
from ..protocol.settlement.epoch_leaves import pool_of
from ..protocol.settlement.frauds import Fraud, LaneFacts, Posted, RawManifest, RegisteredAdapter
from ..protocol.settlement.settled import SettledReceipt, fold_earnings, pool_credits
from ..protocol.signing.bindings import PeerBinding
from ..protocol.signing.eip712 import sign, struct_hash
from ..protocol.signing.keys import AccountKey
from .artefacts import Artefact, artefact
from .proving import PROOFS, abi_argument
from .records import AdapterRegistration
from .registering import datanet_record_id
from .revm import DEPLOYER, RevmNetwork
from .terms import Accounts, Terms
from .tuples import commitment_tuple, split_tuple, voucher_tuple

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


class Stage:
    """The contracts, and one lane of them."""

    def __init__(self, terms: Terms = TERMS, code: Callable[[str], Artefact] = artefact) -> None:
        accounts = Accounts(PLATFORM, POOL_ACCOUNT, guardian=key_of("guardian").address)
        self.network = RevmNetwork(terms, accounts, START, code)
        self.terms, self.domain = terms, self.network.domain
        self.lane = LANE.address
        self.voucher: SignedVoucher | None = None
        self.served: list[SettledReceipt] = []
        self.epochs: list[EpochTrees] = []
        self.earnings: dict[Address, int] = {}
        self._register()
        self.fund(CLIENT.address, "Escrow", FUNDS)
        self.call(CLIENT.address, "Escrow", "deposit", checksummed(CLIENT.address), FUNDS // 2)
        self.bind(CLIENT, PAYER)
        if terms.minimum_bond:
            self.bond(LANE.address, 1, BOND)
        self.network.wait(terms.epoch_length)

    # ---- everybody

    def call(self, sender: Address, contract: str, name: str, *arguments: object) -> object:
        """A call that is accepted. Raises Reverted."""
        return self.network.call(sender, contract, name, *arguments)

    def fund(self, account: Address, spender: str, amount: int) -> None:
        """Gives an account tokens that a contract may take."""
        self.call(DEPLOYER, "CommonloreToken", "mint", checksummed(account), amount)
        held = self.network.tokens(account)
        self.call(account, "CommonloreToken", "approve", self.network.address(spender), held)

    def bond(self, account: Address, role: int, amount: int) -> None:
        """Bonds new money in a role."""
        self.fund(account, "Bonds", amount)
        self.call(account, "Bonds", "bond", role, amount)

    def bind(self, owner: AccountKey, session: AccountKey, not_after: int = FOREVER) -> None:
        """Ties a session key to its owner, on chain."""
        binding = PeerBinding(owner.address, session.address, bytes(32), 0, not_after)
        fields = (checksummed(owner.address), checksummed(session.address), bytes(32), 0, not_after)
        signatures = [sign(self.domain, key, binding) for key in (owner, session)]
        self.call(owner.address, "Escrow", "bind", fields, *signatures)

    def _register(self) -> None:
        self.call(AUTHOR.address, "Registry", "registerBase", digest_of(BASE))
        for name, contributors in (("stage", [ALICE, BOB]), ("second", [CAROL])):
            fields = (keccak256(name.encode()), contributors_root(contributors), bytes(32))
            self.call(CURATOR.address, "Registry", "registerDatanet", name, 1, fields)
        self.register(ADAPTER, (DATANET,))
        self.register(SECOND, (SECOND_DATANET,), author=SECOND_AUTHOR)

    def register(
        self,
        adapter: Cid,
        datanets: tuple[bytes, ...],
        parents: tuple[bytes, ...] = (),
        author: AccountKey = AUTHOR,
    ) -> None:
        """Registers an adapter."""
        made = AdapterRegistration(adapter, BASE, datanets, parents, DEFAULT_SPLIT, author.address)
        fields = (
            digest_of(adapter),
            digest_of(BASE),
            list(datanets),
            list(parents),
            split_tuple(DEFAULT_SPLIT),
            checksummed(author.address),
        )
        assert struct_hash(made)
        self.call(WATCHER, "Registry", "registerAdapter", fields, sign(self.domain, author, made))

    # ---- the lane

    @property
    def epoch(self) -> int:
        """The epoch of now."""
        return (self.network.now - START) // self.terms.epoch_length

    def serve(self, price: int, by_adapter: bool = True, second_ppm: int = 0) -> SettledReceipt:
        """One answer: its receipt, its voucher, and who earns what from it. `second_ppm` is what the second
        adapter weighs in it.
        """
        mixed = (AdapterWeight(ADAPTER, PPM - second_ppm), AdapterWeight(SECOND, second_ppm))
        receipt = Receipt(
            request_hash=bytes(32),
            payer=PAYER.address,
            lane=self.lane,
            seq=1 + (self.voucher.voucher.seq if self.voucher else 0),
            epoch=self.epoch,
            step=0,
            artefact=cid_of(b"stage artefact"),
            adapters=tuple(entry for entry in mixed if entry.weight_ppm and by_adapter),
            prompt_tokens=1,
            output_tokens=1,
            output_root=bytes(32),
            price=price,
            shares=compute_shares(price, DEFAULT_SPLIT if by_adapter else BASE_SPLIT),
            details=bytes(32),
        )
        self.voucher = make_voucher(self.domain, PAYER, receipt, self.voucher)
        settled = SettledReceipt(
            receipt,
            sign(self.domain, LANE, receipt),
            self.voucher.voucher,
            self.voucher.signature,
            tuple(MANIFESTS[entry.adapter].author_payee for entry in receipt.adapters),
            self._credits(receipt),
        )
        self.served.append(settled)
        return settled

    def _credits(self, receipt: Receipt) -> tuple[Credit, ...]:
        """By the priors of each adapter."""
        credits: list[Credit] = []
        for part in receipt_parts(receipt):
            manifest = MANIFESTS.get(part.adapter) if part.adapter else None
            author = manifest.author_payee if manifest else None
            weights = [Weight(prior.payee, prior.ppm) for prior in manifest.priors] if manifest else []
            number = part.number if len(receipt.adapters) > 1 else None
            payees = RolePayees(PLATFORM, self.lane, author, POOL_ACCOUNT)
            credits += divide_shares(part.shares, payees, weights, number)
        return tuple(credits)

    def redeem(self, sender: Address | None = None) -> None:
        """Pays the latest voucher into the pot."""
        assert self.voucher is not None
        vouchers = ([voucher_tuple(self.voucher)], [self.voucher.signature])
        self.call(sender or self.lane, "Escrow", "redeemMany", checksummed(self.lane), *vouchers)

    def build(self) -> EpochTrees:
        """The honest commitment of what was served since the last, for the epoch of now."""
        credits = pool_credits(self.epochs[-1].receipts) if self.epochs else ()
        return build_epoch(
            self.domain, self.epoch, self.served, fold_earnings(self.earnings, credits), credits
        )

    def scene(self) -> Scene:
        """What a dishonest poster changes."""
        return Scene(self.domain, PAYER, data_of(self.build()))

    def changed(self, data: EpochData) -> EpochTrees:
        """The trees over other data."""
        return published_trees(self.domain, data, encode(data))

    def post(self, trees: EpochTrees | None = None, sender: Address | None = None) -> EpochTrees:
        """Posts, the honest commitment if none is given, when its epoch and grace are over."""
        trees = trees or self.build()
        end = START + (trees.commitment.epoch + 1) * self.terms.epoch_length + self.terms.grace
        self.network.wait(max(end - self.network.now, 0))
        arguments = (checksummed(self.lane), commitment_tuple(trees.commitment))
        self.call(sender or self.lane, "Settlement", "postEpoch", *arguments)
        self.epochs.append(trees)
        self.served = []
        self.earnings = {earning.account: earning.cumulative for earning in trees.earned}
        return trees

    def run_epoch(self, prices: Sequence[int] = (900, 500)) -> EpochTrees:
        """Serves these by the adapter and one without, redeems and posts."""
        for price in prices:
            self.serve(price)
        self.serve(300, by_adapter=False)
        self.redeem()
        return self.post()

    # ---- challenges

    def facts(self) -> LaneFacts:
        """What a watcher reads from the chain about the lane."""
        redeemed = self.network.read("Escrow", "redeemed", checksummed(PAYER.address), checksummed(self.lane))
        return LaneFacts(
            self.domain,
            self.lane,
            PLATFORM,
            POOL_ACCOUNT,
            frozenset({self.lane}),
            START,
            self.terms.epoch_length,
            {PAYER.address: redeemed},
            {
                ADAPTER_POOL: RegisteredAdapter(DEFAULT_SPLIT, START, LINEAGE),
                SECOND_POOL: RegisteredAdapter(DEFAULT_SPLIT, START, SECOND_LINEAGE),
            },
            {digest_of(each): RawManifest(encode(manifest)) for each, manifest in MANIFESTS.items()},
        )

    def posted(self) -> Posted:
        """The last commitment as a watcher sees it."""
        return Posted(self.facts(), self.epochs[-2] if len(self.epochs) > 1 else None, self.epochs[-1])

    def challenge(self, fraud: Fraud, sender: Address = WATCHER) -> str | None:
        """Sends a proof; the name of the error if it is refused."""
        contract, name = PROOFS[fraud.kind]
        arguments = [abi_argument(argument) for argument in fraud.arguments]
        return self.network.refusal(sender, contract, name, checksummed(self.lane), *arguments)


def data_of(trees: EpochTrees) -> EpochData:
    """What is published of a commitment."""
    from ..protocol.encoding.codec import decode

    return decode(EpochData, trees.data)
