"""An epoch from what a stranger published of it: its trees, whatever they are worth."""

from __future__ import annotations

from ..encoding.codec import decode
from ..encoding.merkle import MerkleSumTree
from ..errors import LocalProtocolError, RemoteProtocolError
from ..signing.eip712 import Domain
from .commitments import Commitment, EpochData, EpochTrees, assemble
from .settled import receipt_leaf

MAX_EPOCH_BYTES = 1 << 30


def published_trees(domain: Domain, data: EpochData, raw: bytes) -> EpochTrees:
    """The trees over what a stranger published, as it is ordered there, whatever that is; `raw` is its
    encoding.

    Raises RemoteProtocolError where it makes no trees at all.
    """
    try:
        leaves = [receipt_leaf(domain, settled) for settled in data.receipts]
        return assemble(data, MerkleSumTree(leaves), raw)
    except (LocalProtocolError, OverflowError) as wrong:  # shares of a stranger may add up to anything
        raise RemoteProtocolError(f"the data of epoch {data.epoch} makes no trees: {wrong}") from None


def open_epoch(domain: Domain, commitment: Commitment, raw: bytes) -> EpochTrees:
    """A posted commitment's trees from its published data; whether they are right is another question.

    Raises RemoteProtocolError where the data is not what was committed.
    """
    trees = published_trees(domain, decode(EpochData, raw, MAX_EPOCH_BYTES), raw)
    if trees.commitment != commitment:
        raise RemoteProtocolError(f"the data of epoch {commitment.epoch} is not what was committed")
    return trees


def open_receipts(domain: Domain, commitment: Commitment, raw: bytes) -> EpochTrees:
    """Of a commitment whose published data makes other trees than were committed, its receipts alone, where
    they are those that were committed: all else is left empty.

    Raises RemoteProtocolError where not even these are.
    """
    data = decode(EpochData, raw, MAX_EPOCH_BYTES)
    try:
        tree = MerkleSumTree(receipt_leaf(domain, settled) for settled in data.receipts)
    except LocalProtocolError as wrong:
        raise RemoteProtocolError(f"the receipts of epoch {commitment.epoch} make no tree: {wrong}") from None
    found = (tree.root, tree.total, tree.count)
    if found != (commitment.receipt_root, commitment.receipt_sum, commitment.receipt_count):
        raise RemoteProtocolError(f"the receipts of epoch {commitment.epoch} are not what was committed")
    empty = MerkleSumTree(())
    return EpochTrees(commitment, tree, empty, empty, empty, empty, data.receipts, (), (), (), (), raw)
