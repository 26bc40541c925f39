"""The embedded chain's machine: py-evm with one block a transaction, at the times it is told.

Everything is deterministic (no clock, no randomness: a block's prevrandao is the hash of its parent), so that
a journal of transactions and times gives the same chain again. Several blocks may bear the same second, as on
rollups; time never runs ahead of what was asked. Not thread-safe: `rpc` holds the lock. The only file that
imports py-evm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...protocol.errors import ChainError
from ...protocol.ids import Address, checksummed, keccak256
from ..deploying.plan import contract_address
from .facts import GAS_LIMIT, BlockFacts, CallRequest, LogEntry, Mined

_CHAIN_IDS_FROM = 70_000_000_000
"""A devchain's id is this and its genesis time: signatures for one are worth nothing on the next."""
_STEADY_GAS = 21_000
_ESTIMATE_MARGIN = (5, 4)  # an inner call keeps back 1/64 of its gas, so what was used is not quite enough


class Reverted(ChainError):
    """A call or estimate that reverted; `data` is what it returned."""

    code = "reverted"

    def __init__(self, data: bytes, message: str = "execution reverted") -> None:
        super().__init__(message)
        self.data = data


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A place to come back to."""

    header: Any
    pending: Any
    blocks: int


class EmbeddedChain:
    """A chain in memory. `alloc` gives accounts their wei at genesis; times are Unix seconds."""

    def __init__(self, alloc: Mapping[Address, int], genesis_time: int) -> None:
        self.chain_id = _CHAIN_IDS_FROM + genesis_time
        self._chain = _new_chain(alloc, genesis_time, self.chain_id)
        genesis = self._chain.get_canonical_block_by_number(0).header
        self._blocks = [_block_facts(genesis, ())]
        self._mined: dict[bytes, Mined] = {}

    # ---- making blocks

    def send(self, raw: bytes, timestamp: int) -> bytes:
        """Mines a signed transaction; its hash.

        Raises ChainError if it cannot be included, whatever its outcome is then.
        """
        from eth_utils.exceptions import ValidationError
        from rlp.exceptions import RLPException  # type: ignore[import-untyped]

        self._set_time(timestamp)
        try:
            transaction = self._chain.get_vm().get_transaction_builder().decode(raw)
            if transaction.hash in self._mined:
                raise ChainError("already known")
            _, receipt, computation = self._chain.apply_transaction(transaction)
        except (ValidationError, RLPException, TypeError, ValueError) as error:
            raise ChainError(self._why_refused(raw, error)) from error
        header = self._mine()
        created = transaction.to == b""
        mined = Mined(
            hash=transaction.hash,
            sender=Address(transaction.sender),
            to=None if created else Address(transaction.to),
            nonce=transaction.nonce,
            block=header.block_number,
            gas_used=header.gas_used,
            gas_price=header.base_fee_per_gas,
            succeeded=computation.is_success,
            created=Address(computation.msg.storage_address) if created and computation.is_success else None,
            logs=_logs(receipt, header.block_number, transaction.hash),
        )
        self._mined[mined.hash] = mined
        self._blocks.append(_block_facts(header, (mined.hash,)))
        return mined.hash

    def mine(self, timestamp: int) -> None:
        """An empty block."""
        self._set_time(timestamp)
        self._blocks.append(_block_facts(self._mine(), ()))

    def _set_time(self, timestamp: int) -> None:
        self._chain.set_header_timestamp(max(timestamp, self.head.timestamp))

    def _mine(self) -> Any:
        parent = self.head.hash
        self._chain.mine_block(coinbase=bytes(20), mix_hash=keccak256(parent), blob_gas_used=0)
        return self._chain.get_canonical_head()

    def _why_refused(self, raw: bytes, error: Exception) -> str:
        """The words wallets and clients know for the common reasons."""
        if "nonce" in str(error).lower():
            transaction = self._chain.get_vm().get_transaction_builder().decode(raw)
            low = transaction.nonce < self.nonce(Address(transaction.sender))
            return f"nonce too {'low' if low else 'high'}: {transaction.nonce}"
        if "balance" in str(error).lower():
            sender = Address(self._chain.get_vm().get_transaction_builder().decode(raw).sender)
            return f"insufficient funds for gas: {checksummed(sender)} has {self.balance(sender)} wei"
        return f"transaction refused: {error}"

    # ---- executing without blocks

    def call(self, request: CallRequest, timestamp: int) -> tuple[bytes, int]:
        """(output, gas used) as if sent now. Raises Reverted with the return data."""
        self._set_time(timestamp)
        computation = self._execute(request)
        if computation.is_error:
            raise Reverted(bytes(computation.output), f"execution reverted: {computation.error!r}"[:200])
        return bytes(computation.output), computation.get_gas_used()

    def estimate(self, request: CallRequest, timestamp: int) -> int:
        """Enough gas for this call: what one run used, before refunds, and a margin. Raises Reverted."""
        intrinsic = _STEADY_GAS + 16 * len(request.data) + (32_000 if request.to is None else 0)
        _, used = self.call(request, timestamp)
        floor = _STEADY_GAS + 40 * len(request.data)  # EIP-7623
        return min(max((intrinsic + used) * _ESTIMATE_MARGIN[0] // _ESTIMATE_MARGIN[1], floor), GAS_LIMIT)

    def _execute(self, request: CallRequest) -> Any:
        from eth.vm import message, transaction_context

        new_message: Any = message.Message
        new_context: Any = transaction_context.BaseTransactionContext
        state = self._chain.get_vm().state
        target = request.to or contract_address(request.sender, self.nonce(request.sender))
        call = new_message(
            gas=request.gas,
            to=request.to or b"",
            sender=request.sender,
            value=request.value,
            data=request.data if request.to else b"",
            code=state.get_code(request.to) if request.to else request.data,
            create_address=None if request.to else target,
        )
        context = new_context(gas_price=0, origin=request.sender)
        run = (
            state.computation_class.apply_message
            if request.to
            else state.computation_class.apply_create_message
        )
        snapshot = state.snapshot()
        try:
            return run(state, call, context)
        finally:
            state.revert(snapshot)

    # ---- reading

    @property
    def head(self) -> BlockFacts:
        """The last mined block."""
        return self._blocks[-1]

    def pending(self, timestamp: int) -> BlockFacts:
        """The block a transaction sent now would be in."""
        self._set_time(timestamp)
        header = self._chain.header
        return BlockFacts(
            number=header.block_number,
            hash=self.head.hash,
            parent=self.head.hash,
            timestamp=header.timestamp,
            base_fee=header.base_fee_per_gas,
            gas_used=0,
            transactions=(),
        )

    def block(self, number: int) -> BlockFacts | None:
        return self._blocks[number] if 0 <= number < len(self._blocks) else None

    def transaction(self, hash_: bytes) -> Mined | None:
        return self._mined.get(hash_)

    def logs(self, first: int, last: int) -> list[LogEntry]:
        """Every event of blocks first to last, in order."""
        blocks = self._blocks[max(first, 0) : last + 1]
        return [log for block in blocks for hash_ in block.transactions for log in self._mined[hash_].logs]

    def balance(self, account: Address) -> int:
        """Wei."""
        return int(self._chain.get_vm().state.get_balance(account))

    def nonce(self, account: Address) -> int:
        return int(self._chain.get_vm().state.get_nonce(account))

    def code(self, account: Address) -> bytes:
        return bytes(self._chain.get_vm().state.get_code(account))

    # ---- going back

    def snapshot(self) -> Snapshot:
        return Snapshot(self._chain.get_canonical_head(), self._chain.header, len(self._blocks))

    def restore(self, snapshot: Snapshot) -> None:
        """Forgets everything since. State is content-addressed, so only the head moves."""
        database = self._chain.chaindb
        database._set_as_canonical_chain_head(database.db, snapshot.header, bytes(32))
        self._chain.header = snapshot.pending
        for block in self._blocks[snapshot.blocks :]:
            for hash_ in block.transactions:
                del self._mined[hash_]
        del self._blocks[snapshot.blocks :]


def _new_chain(alloc: Mapping[Address, int], genesis_time: int, own_id: int) -> Any:
    from eth.chains.base import MiningChain
    from eth.db.atomic import AtomicDB
    from eth.vm.forks.prague import PragueVM

    class _Machine(PragueVM):
        def validate_block(self, block: Any) -> None:
            """Nothing: this program made the block, and equal timestamps are meant."""

    class _Chain(MiningChain):
        chain_id = own_id
        vm_configuration: Any = ((0, _Machine),)

        def create_header_from_parent(self, parent_header: Any, **fields: Any) -> Any:
            fields = {"gas_limit": parent_header.gas_limit, "timestamp": parent_header.timestamp, **fields}
            return super().create_header_from_parent(parent_header, **fields)

        def validate_block(self, block: Any) -> None:
            """Nothing, for the same reason."""

    parameters: Any = {
        "difficulty": 0,
        "gas_limit": GAS_LIMIT,
        "timestamp": genesis_time,
        "extra_data": b"commonlore",
    }
    state: Any = {
        account: {"balance": wei, "nonce": 0, "code": b"", "storage": {}} for account, wei in alloc.items()
    }
    return _Chain.from_genesis(AtomicDB(), parameters, state)


def _block_facts(header: Any, transactions: tuple[bytes, ...]) -> BlockFacts:
    return BlockFacts(
        number=header.block_number,
        hash=header.hash,
        parent=header.parent_hash,
        timestamp=header.timestamp,
        base_fee=header.base_fee_per_gas,
        gas_used=header.gas_used,
        transactions=transactions,
    )


def _logs(receipt: Any, block: int, transaction: bytes) -> tuple[LogEntry, ...]:
    return tuple(
        LogEntry(
            address=Address(log.address),
            topics=tuple(topic.to_bytes(32, "big") for topic in log.topics),
            data=bytes(log.data),
            block=block,
            index=index,
            transaction=transaction,
        )
        for index, log in enumerate(receipt.logs)
    )
