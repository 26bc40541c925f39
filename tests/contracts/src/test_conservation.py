"""Money is conserved whatever is called in whatever order: a state machine over the real bytecode, on revm.

The model knows what everybody should have; after each step the contracts must say the same, and no more may
ever come out of a pot than went in, nor out of an escrow than was deposited.
"""

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from commonlore.contracts.calling.tuples import claim_tuple, commitment_tuple, voucher_tuple
from commonlore.contracts.deploying.terms import Accounts, Terms
from commonlore.contracts.staging.revm import DEPLOYER, RevmNetwork
from commonlore.protocol.encoding.merkle import MerkleSumTree
from commonlore.protocol.ids import Address, checksummed, keccak256
from commonlore.protocol.receipts.records import SignedVoucher, Voucher
from commonlore.protocol.settlement.commitments import Claim, Commitment, earnings_leaf
from commonlore.protocol.signing.bindings import bind
from commonlore.protocol.signing.eip712 import sign
from commonlore.protocol.signing.keys import AccountKey, PeerKey

START, EPOCH, WINDOW, THAW = 1_800_000_000, 100, 50, 400
CLIENTS, LANES, ACCOUNTS = (0, 1), (0, 1), (0, 1, 2)
FUNDS = 1_000
AMOUNTS = st.integers(1, 150)


def key(name: str) -> AccountKey:
    return AccountKey.from_secret(keccak256(name.encode()))


OWNERS = [key(f"owner {i}") for i in CLIENTS]
SESSIONS = [key(f"session {i}") for i in CLIENTS]
WORKERS = [key(f"worker {i}").address for i in LANES]
EARNERS = sorted(key(f"earner {i}").address for i in ACCOUNTS)


def deploy() -> RevmNetwork:
    payee = keccak256(b"payee")[12:]
    terms = Terms(epoch_length=EPOCH, window=WINDOW, thaw=THAW)
    return RevmNetwork(terms, Accounts(payee, payee), START)


class Conservation(RuleBasedStateMachine):
    """Two clients, two lanes, three earners."""

    @initialize()
    def begin(self) -> None:
        self.chain = deploy()
        self.domain = self.chain.domain
        self.now = START
        self.wallets = [FUNDS for _ in CLIENTS]
        self.balances, self.thawing = [0 for _ in CLIENTS], [(0, 0) for _ in CLIENTS]
        self.reserved = {(c, w): 0 for c in CLIENTS for w in LANES}
        self.redeemed = dict(self.reserved)
        self.pots, self.committed, self.next_epoch = ([0 for _ in LANES] for _ in range(3))
        self.earned = [[0 for _ in ACCOUNTS] for _ in LANES]
        self.claimed = [[0 for _ in ACCOUNTS] for _ in LANES]
        self.posted: list[tuple[int, Commitment, list[Claim], int]] = []
        for client in CLIENTS:
            self._open(client)
            self.deposit(client, FUNDS // 2)

    def _open(self, client: int) -> None:
        owner = OWNERS[client]
        escrow = checksummed(self.chain.at["Escrow"])
        self.chain.call(DEPLOYER, "CommonloreToken", "mint", checksummed(owner.address), FUNDS)
        self.chain.call(owner.address, "CommonloreToken", "approve", escrow, 2**255)
        peer = PeerKey.generate(bytes(32))
        signed = bind(self.domain, owner, SESSIONS[client], peer, START, 2**60)
        binding = signed.binding
        fields = (
            checksummed(binding.owner),
            checksummed(binding.session_key),
            binding.ed25519_key,
            binding.not_before,
            binding.not_after,
        )
        self.chain.call(
            owner.address, "Escrow", "bind", fields, signed.owner_signature, signed.session_signature
        )

    def _attempt(self, allowed: bool, sender: Address, contract: str, name: str, *arguments: object) -> bool:
        """Calls, and holds the contract to `allowed`."""
        if not allowed:
            assert self.chain.refusal(sender, contract, name, *arguments), f"{name} must be refused"
        else:
            self.chain.call(sender, contract, name, *arguments)
        return allowed

    @rule(client=st.sampled_from(CLIENTS), amount=AMOUNTS)
    def deposit(self, client: int, amount: int) -> None:
        owner = OWNERS[client].address
        covered = amount <= self.wallets[client]
        if self._attempt(covered, owner, "Escrow", "deposit", checksummed(owner), amount):
            self.wallets[client] -= amount
            self.balances[client] += amount

    @rule(client=st.sampled_from(CLIENTS), lane=st.sampled_from(LANES), amount=AMOUNTS)
    def reserve(self, client: int, lane: int, amount: int) -> None:
        channel = (checksummed(SESSIONS[client].address), checksummed(WORKERS[lane]))
        covered = amount <= self.balances[client]
        if self._attempt(covered, OWNERS[client].address, "Escrow", "reserve", *channel, amount):
            self._spend(client, amount)
            self.reserved[client, lane] += amount

    @rule(client=st.sampled_from(CLIENTS), amount=AMOUNTS)
    def thaw(self, client: int, amount: int) -> None:
        covered = amount <= self.balances[client]
        if self._attempt(covered, OWNERS[client].address, "Escrow", "thaw", amount):
            self.thawing[client] = (amount, self.now + THAW)

    @rule(client=st.sampled_from(CLIENTS), patient=st.booleans())
    def withdraw(self, client: int, patient: bool) -> None:
        self.wait(THAW if patient else 0)
        amount, when = self.thawing[client]
        if self._attempt(amount > 0 and self.now >= when, OWNERS[client].address, "Escrow", "withdraw"):
            self.thawing[client] = (0, 0)
            self.balances[client] -= amount
            self.wallets[client] += amount

    @rule(client=st.sampled_from(CLIENTS), lane=st.sampled_from(LANES), increase=AMOUNTS, again=st.booleans())
    def redeem(self, client: int, lane: int, increase: int, again: bool) -> None:
        cumulative = self.redeemed[client, lane] + increase
        fields = Voucher(
            payer=SESSIONS[client].address,
            lane=WORKERS[lane],
            seq=1,
            epoch=(self.now - START) // EPOCH,
            cumulative=cumulative,
            price=increase,
            receipt_hash=bytes(32),
        )
        signed = SignedVoucher(fields, sign(self.domain, SESSIONS[client], fields))
        call = (checksummed(WORKERS[lane]), [voucher_tuple(signed)], [signed.signature])
        covered = increase <= self.reserved[client, lane] + self.balances[client]
        if self._attempt(covered, WORKERS[lane], "Escrow", "redeemMany", *call):
            from_reservation = min(increase, self.reserved[client, lane])
            self.reserved[client, lane] -= from_reservation
            self._spend(client, increase - from_reservation)
            self.redeemed[client, lane] = cumulative
            self.pots[lane] += increase
            if again:
                self._attempt(False, WORKERS[lane], "Escrow", "redeemMany", *call)

    def _spend(self, client: int, amount: int) -> None:
        self.balances[client] -= amount
        thawing, when = self.thawing[client]
        self.thawing[client] = (min(thawing, self.balances[client]), when)

    @rule(seconds=st.sampled_from((1, WINDOW, EPOCH, THAW)))
    def wait(self, seconds: int) -> None:
        self.now += seconds
        self.chain.wait(seconds)

    @rule(lane=st.sampled_from(LANES), cuts=st.tuples(st.integers(0, 100), st.integers(0, 100)))
    def end_epoch_and_post(self, lane: int, cuts: tuple[int, int]) -> None:
        """An honest commitment: what was committed before is divided among the earners, nobody losing any."""
        self.wait(EPOCH)
        epoch = (self.now - START) // EPOCH - 1
        new = self.committed[lane] - sum(self.earned[lane])
        low, high = sorted(new * cut // 100 for cut in cuts)
        earned = [
            old + part for old, part in zip(self.earned[lane], (low, high - low, new - high), strict=True)
        ]
        commitment, claims = self._commitment(epoch, self.pots[lane] - self.committed[lane], earned)
        call = (checksummed(WORKERS[lane]), commitment_tuple(commitment))
        if self._attempt(epoch >= self.next_epoch[lane], WORKERS[lane], "Settlement", "postEpoch", *call):
            self.earned[lane] = earned
            self.committed[lane] = self.pots[lane]
            self.next_epoch[lane] = epoch + 1
            self.posted.append((lane, commitment, claims, self.now + WINDOW))

    @rule(lane=st.sampled_from(LANES), receipts=st.integers(-1, 1), earnings=st.integers(0, 1))
    def post_wrong_sums(self, lane: int, receipts: int, earnings: int) -> None:
        epoch = (self.now - START) // EPOCH - 1
        increase = self.pots[lane] - self.committed[lane] + receipts
        if (receipts, earnings) == (0, 0) or epoch < 0 or increase < 0:
            return
        earned = [*self.earned[lane][:-1], self.committed[lane] - sum(self.earned[lane][:-1]) + earnings]
        commitment, _ = self._commitment(epoch, increase, earned)
        call = (checksummed(WORKERS[lane]), commitment_tuple(commitment))
        self._attempt(False, WORKERS[lane], "Settlement", "postEpoch", *call)

    def _commitment(self, epoch: int, receipt_sum: int, earned: list[int]) -> tuple[Commitment, list[Claim]]:
        entries = [(account, amount) for account, amount in zip(EARNERS, earned, strict=True) if amount]
        tree = MerkleSumTree(earnings_leaf(*entry) for entry in entries)
        commitment = Commitment(
            epoch=epoch,
            receipt_root=keccak256(b"receipts") if receipt_sum else bytes(32),
            earnings_root=tree.root,
            receipt_sum=receipt_sum,
            cumulative_total=tree.total,
            receipt_count=int(receipt_sum > 0),
            line_count=int(receipt_sum > 0),
            account_count=tree.count,
            data_hash=bytes(32),
        )
        return commitment, [Claim(*entry, i, tuple(tree.proof(i))) for i, entry in enumerate(entries)]

    @precondition(lambda self: self.posted)
    @rule(data=st.data(), patient=st.booleans())
    def claim(self, data: st.DataObject, patient: bool) -> None:
        self.wait(WINDOW if patient else 0)
        lane, commitment, claims, final_at = data.draw(st.sampled_from(self.posted))
        chosen = [claim for claim in claims if data.draw(st.booleans())]
        call = (checksummed(WORKERS[lane]), commitment_tuple(commitment), [claim_tuple(c) for c in chosen])
        if self._attempt(self.now >= final_at, DEPLOYER, "Settlement", "claimMany", *call):
            for claim in chosen:
                account = EARNERS.index(claim.account)
                self.claimed[lane][account] = max(self.claimed[lane][account], claim.cumulative)

    @invariant()
    def the_contracts_hold_what_they_owe(self) -> None:
        assert self._held("Escrow") == sum(self.balances) + sum(self.reserved.values())
        assert self._held("Settlement") == sum(self.pots) - sum(map(sum, self.claimed))
        for client in CLIENTS:
            assert self._tokens(OWNERS[client].address) == self.wallets[client]
        for account in ACCOUNTS:
            assert self._tokens(EARNERS[account]) == sum(claimed[account] for claimed in self.claimed)

    @invariant()
    def every_fund_is_what_the_model_says(self) -> None:
        for client in CLIENTS:
            fund = self.chain.read("Escrow", "balanceOf", checksummed(OWNERS[client].address))
            assert fund[:2] == (self.balances[client], self.thawing[client][0])
        for (client, lane), reserved in self.reserved.items():
            channel = (checksummed(SESSIONS[client].address), checksummed(WORKERS[lane]))
            assert self.chain.read("Escrow", "reservationOf", *channel)[0] == reserved

    @invariant()
    def pots_and_escrow_are_never_overdrawn(self) -> None:
        for lane in LANES:
            pot, committed, claimed, *_ = self.chain.read("Settlement", "lanes", checksummed(WORKERS[lane]))
            assert (pot, committed, claimed) == (
                self.pots[lane],
                self.committed[lane],
                sum(self.claimed[lane]),
            )
            assert claimed <= committed <= pot
        for client in CLIENTS:
            spent = sum(self.redeemed[client, lane] for lane in LANES)
            assert spent <= FUNDS - self.wallets[client]

    def _held(self, contract: str) -> int:
        return self._tokens(self.chain.at[contract])

    def _tokens(self, account: Address) -> int:
        return self.chain.tokens(account)


TestConservation = Conservation.TestCase
TestConservation.settings = settings(
    max_examples=30,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
