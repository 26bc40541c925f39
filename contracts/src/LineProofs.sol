// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Challenge} from "./Challenge.sol";
import {Commitment} from "./Commitment.sol";
import {AdapterWeight, Leaves, LineLeaf, ReceiptLeaf, ReceiptOpening, Shares} from "./Leaves.sol";
import {Manifests} from "./Manifests.sol";
import {Registry} from "./Registry.sol";
import {Settlement} from "./Settlement.sol";

/// @title Frauds in a commitment's lines: its receipts by pool, with running totals.
/// @notice Together they say: there is one line for each receipt, in its adapter's pool, and the last line of a pool holds
/// what the roles earn from all its receipts, divided as the adapter is registered.
/// @dev That no receipt lacks a line needs no proof: there are as many lines as receipts, and none is stray or double.
contract LineProofs is Challenge {
    uint256 private constant WHOLE = 10_000;

    /// @notice Whether an adapter must be in the Registry before the epoch of its receipts. If not, the split of one that is
    /// not is not judged here.
    bool public immutable registryRequired;

    constructor(Settlement settlement_, bool registryRequired_) Challenge(settlement_) {
        registryRequired = registryRequired_;
    }

    /// @notice A line that does not follow from its receipt and the line before it.
    /// @param before the line just before; none at index 0
    function proveBadLine(
        address lane,
        Commitment calldata commitment,
        LineLeaf[] calldata before,
        LineLeaf calldata line,
        ReceiptOpening calldata opening
    ) external {
        _requirePair(commitment, line, opening);
        bool first = before.length == 0;
        if (!first) Leaves.requireLine(commitment, before[0]);
        uint256 position = first ? 0 : uint256(before[0].index) + 1;
        if (before.length > 1 || position != line.index) revert NotFraud();
        bool fraud = line.adapter != _heaviest(opening.receipt.adapters)
            || (line.adapter == 0 && line.author != address(0)) || line.price != opening.price
            || (!first && !Leaves.lineIsBefore(before[0], line)) || !_addsUp(before, line, opening.receipt.shares);
        _requireFraud(fraud);
        _kill(lane, commitment, "bad line");
    }

    /// @notice A line of a receipt that is not in the commitment.
    function proveStrayLine(
        address lane,
        Commitment calldata commitment,
        LineLeaf calldata line,
        ReceiptLeaf[] calldata gap
    ) external {
        Leaves.requireLine(commitment, line);
        _requireFraud(_isMissing(commitment, line.receiptId, gap));
        _kill(lane, commitment, "line of no receipt");
    }

    /// @notice Two lines of one receipt.
    function proveDoubleLine(address lane, Commitment calldata commitment, LineLeaf calldata a, LineLeaf calldata b)
        external
    {
        Leaves.requireLine(commitment, a);
        Leaves.requireLine(commitment, b);
        _requireFraud(a.index != b.index && a.receiptId == b.receiptId);
        _kill(lane, commitment, "two lines of a receipt");
    }

    /// @notice A receipt that is divided otherwise than its adapter's registered split says.
    /// @dev Only what was registered before the receipt's epoch began counts against it.
    function proveBadSplit(
        address lane,
        Commitment calldata commitment,
        LineLeaf calldata line,
        ReceiptOpening calldata opening
    ) external {
        _requirePair(commitment, line, opening);
        _requireFraud(line.adapter != 0);
        (,, Registry.Split memory split, uint64 registeredAt) = settlement.registry().adapters(Leaves.poolOf(line));
        uint64 epoch = opening.receipt.epoch;
        uint64 begin = settlement.genesis() + epoch * settlement.epochLength();
        bool known = registeredAt != 0 && registeredAt < begin;
        bool late = registeredAt == 0 || registeredAt >= begin + settlement.epochLength();
        bool fraud = known ? !_isDivided(opening.receipt.shares, opening.receipt.price, split) : registryRequired && late;
        _requireFraud(fraud);
        _kill(lane, commitment, "split is not the registered one");
    }

    /// @notice A line under another author than the adapter's own manifest names: under a record of its copy, that is.
    /// @param manifest the adapter's; its sha2-256 is the adapter
    function proveWrongAuthor(
        address lane,
        Commitment calldata commitment,
        LineLeaf calldata line,
        bytes calldata manifest
    ) external {
        Leaves.requireLine(commitment, line);
        _requireFraud(sha256(manifest) == line.adapter && Manifests.authorPayee(manifest) != line.author);
        _kill(lane, commitment, "line of another author");
    }

    function _requirePair(Commitment calldata commitment, LineLeaf calldata line, ReceiptOpening calldata opening)
        private
        view
    {
        Leaves.requireLine(commitment, line);
        Leaves.requireOpening(commitment, opening, _escrow());
        if (opening.id != line.receiptId) revert NotFraud();
    }

    /// @dev The adapter whose split and contributors an answer pays: the heaviest, ties to the lowest id.
    function _heaviest(AdapterWeight[] calldata weights) private pure returns (bytes32 adapter) {
        uint32 most;
        for (uint256 i; i < weights.length; ++i) {
            AdapterWeight calldata entry = weights[i];
            if (i != 0 && (entry.weightPpm < most || (entry.weightPpm == most && entry.adapter >= adapter))) continue;
            (adapter, most) = (entry.adapter, entry.weightPpm);
        }
    }

    function _addsUp(LineLeaf[] calldata before, LineLeaf calldata line, Shares calldata shares)
        private
        pure
        returns (bool)
    {
        uint128[5] memory parts = _parts(shares);
        bool goesOn = before.length == 1 && Leaves.poolOf(before[0]) == Leaves.poolOf(line);
        for (uint256 i; i < 5; ++i) {
            uint256 start = goesOn ? before[0].totals[i] : 0;
            if (line.totals[i] != start + parts[i]) return false;
        }
        return true;
    }

    function _isMissing(Commitment calldata commitment, bytes32 id, ReceiptLeaf[] calldata gap)
        private
        pure
        returns (bool)
    {
        for (uint256 i; i < gap.length; ++i) Leaves.requireReceipt(commitment, gap[i]);
        uint32 count = commitment.receiptCount;
        if (gap.length == 1) {
            bool left = gap[0].id < id;
            return gap[0].id != id && Leaves.isGap(left, gap[0].index, !left, gap[0].index, count);
        }
        return gap.length == 2 && gap[0].id < id && id < gap[1].id
            && Leaves.isGap(true, gap[0].index, true, gap[1].index, count);
    }

    /// @dev Largest remainder, ties to the first role: as protocol/credits.py divides.
    function _isDivided(Shares calldata shares, uint128 price, Registry.Split memory split) private pure returns (bool) {
        uint256[5] memory weights =
            [uint256(split.platform), split.worker, split.author, split.workPool, split.contributors];
        uint256[5] memory parts;
        uint256[5] memory remainders;
        uint256 left = price;
        for (uint256 i; i < 5; ++i) {
            uint256 product = price * weights[i];
            (parts[i], remainders[i]) = (product / WHOLE, product % WHOLE);
            left -= parts[i];
        }
        for (; left != 0; --left) {
            uint256 best;
            for (uint256 i = 1; i < 5; ++i) if (remainders[i] > remainders[best]) best = i;
            (parts[best], remainders[best]) = (parts[best] + 1, 0);
        }
        uint128[5] memory given = _parts(shares);
        for (uint256 i; i < 5; ++i) if (parts[i] != given[i]) return false;
        return true;
    }

    function _parts(Shares calldata shares) private pure returns (uint128[5] memory) {
        return [shares.platform, shares.worker, shares.author, shares.workPool, shares.contributors];
    }
}
