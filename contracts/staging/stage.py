"""A lane on revm that serves, redeems and posts, with all it needs: for tests, figures and planted bugs.

One payer, an adapter of two contributors and one of a third registered on chain, a lane whose key speaks and
posts for itself, a watcher with an account. What it posts is honest unless other data is given to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ...protocol.content.compositions import AdapterWeight
from ...protocol.content.rows import contributors_root
from ...protocol.content.splits import BASE_SPLIT, DEFAULT_SPLIT
from ...protocol.encoding.codec import decode, encode
from ...protocol.encoding.fields import PPM
from ...protocol.ids import Address, Cid, checksummed, cid_of, digest_of, keccak256
from ...protocol.receipts.credits import RolePayees, compute_shares, divide_shares
from ...protocol.receipts.parts import receipt_parts
from ...protocol.receipts.records import Credit, Receipt, SignedVoucher, Weight
from ...protocol.receipts.rules import make_voucher
from ...protocol.settlement.commitments import EpochData, EpochTrees, build_epoch
from ...protocol.settlement.dishonest import Scene
from ...protocol.settlement.frauds import Fraud, LaneFacts, Posted, RawManifest, RegisteredAdapter
from ...protocol.settlement.published import published_trees
from ...protocol.settlement.settled import SettledReceipt, fold_earnings, pool_credits
from ...protocol.signing.bindings import PeerBinding
from ...protocol.signing.eip712 import sign, struct_hash
from ...protocol.signing.keys import AccountKey
from ..artefacts import Artefact, artefact
from ..calling.records import AdapterRegistration
from ..calling.tuples import commitment_tuple, split_tuple, voucher_tuple
from ..client.proving import PROOFS, abi_argument
from ..deploying.terms import Accounts, Terms
from .cast import (
    ADAPTER,
    ADAPTER_POOL,
    ALICE,
    AUTHOR,
    BASE,
    BOB,
    BOND,
    CAROL,
    CLIENT,
    CURATOR,
    DATANET,
    FOREVER,
    FUNDS,
    GUARDIAN,
    LANE,
    LINEAGE,
    MANIFESTS,
    PAYER,
    PLATFORM,
    POOL_ACCOUNT,
    SECOND,
    SECOND_AUTHOR,
    SECOND_DATANET,
    SECOND_LINEAGE,
    SECOND_POOL,
    START,
    TERMS,
    WATCHER,
)
from .revm import DEPLOYER, RevmNetwork


class Stage:
    """The contracts, and one lane of them."""

    def __init__(self, terms: Terms = TERMS, code: Callable[[str], Artefact] = artefact) -> None:
        accounts = Accounts(PLATFORM, POOL_ACCOUNT, guardian=GUARDIAN)
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
        self.call(sender or self.lane, "Escrow", "redeemMany", *self.voucher_call())

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
        self.call(sender or self.lane, "Settlement", "postEpoch", *self.commitment_call(trees))
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

    def voucher_call(self) -> tuple[str, list[object], list[bytes]]:
        """The lane and its latest voucher, as a call names them."""
        assert self.voucher is not None
        return checksummed(self.lane), [voucher_tuple(self.voucher)], [self.voucher.signature]

    def commitment_call(self, trees: EpochTrees) -> tuple[str, object]:
        """The lane and a commitment of it, as a call names them."""
        return checksummed(self.lane), commitment_tuple(trees.commitment)

    @contextmanager
    def undone(self) -> Iterator[Stage]:
        """The stage, and at the end it is taken back to what it is now."""
        before, voucher = self.network.snapshot(), self.voucher
        kept = list(self.epochs), list(self.served), dict(self.earnings)
        try:
            yield self
        finally:
            self.network.revert(before)
            self.voucher, (self.epochs, self.served, self.earnings) = voucher, kept

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
    return decode(EpochData, trees.data)
