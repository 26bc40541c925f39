// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Challenge} from "./Challenge.sol";
import {Commitment} from "./Commitment.sol";
import {Division} from "./Division.sol";
import {Leaves, LineLeaf, ReceiptLeaf, ReceiptOpening, Shares} from "./Leaves.sol";
import {Manifests} from "./Manifests.sol";
import {Parts} from "./Parts.sol";
import {Registry} from "./Registry.sol";
import {Settlement} from "./Settlement.sol";

/// @title Frauds in a commitment's lines: its receipts' parts by pool, with running totals.
/// @notice Together they say: there is one line for each part of each receipt, in its adapter's pool, and the last line of a
/// pool holds what the roles earn from all of these, receipts being divided as their heaviest adapter is registered.
/// @dev That no part lacks a line needs no proof: all lines sum to what all receipts cost, or none of them can be shown (which
/// a demand punishes), none is stray or double, and each has just its part.
contract LineProofs is Challenge {
    /// @notice Whether an adapter must be in the Registry before the epoch of its receipts. If not, the split of one that is
    /// not is not judged here.
    bool public immutable registryRequired;

    constructor(Settlement settlement_, bool registryRequired_) Challenge(settlement_) {
        registryRequired = registryRequired_;
    }

    /// @notice A line that does not follow from its receipt and the line before it. One of an adapter that the receipt does
    /// not name has a part of nothing, and so has no line.
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
        uint256[5] memory part = Parts.partOf(opening.receipt, line.adapter);
        bool fraud = (line.adapter == 0 && line.author != address(0)) || line.price == 0 || line.price != _sum(part)
            || (!first && !Leaves.lineIsBefore(before[0], line)) || !_addsUp(before, line, part);
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

    /// @notice Two lines of one part.
    function proveDoubleLine(address lane, Commitment calldata commitment, LineLeaf calldata a, LineLeaf calldata b)
        external
    {
        Leaves.requireLine(commitment, a);
        Leaves.requireLine(commitment, b);
        _requireFraud(a.index != b.index && a.receiptId == b.receiptId && a.adapter == b.adapter);
        _kill(lane, commitment, "two lines of a part");
    }

    /// @notice A receipt that is divided otherwise than its heaviest adapter's registered split says; or, where adapters must
    /// be registered, one of any adapter that is not.
    /// @param line of the receipt, in that adapter's pool
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
        bool fraud = known
            ? line.adapter == Parts.heaviest(opening.receipt.adapters)
                && !_isDivided(opening.receipt.shares, opening.receipt.price, split)
            : registryRequired && late;
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

    function _addsUp(LineLeaf[] calldata before, LineLeaf calldata line, uint256[5] memory part)
        private
        pure
        returns (bool)
    {
        bool goesOn = before.length == 1 && Leaves.poolOf(before[0]) == Leaves.poolOf(line);
        for (uint256 i; i < 5; ++i) {
            uint256 start = goesOn ? before[0].totals[i] : 0;
            if (line.totals[i] != start + part[i]) return false;
        }
        return true;
    }

    function _sum(uint256[5] memory part) private pure returns (uint256 sum) {
        for (uint256 i; i < 5; ++i) sum += part[i];
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

    /// @dev Ties to the first role: as protocol/credits.py divides.
    function _isDivided(Shares calldata shares, uint128 price, Registry.Split memory split) private pure returns (bool) {
        uint256[] memory weights = new uint256[](5);
        (weights[0], weights[1], weights[2]) = (split.platform, split.worker, split.author);
        (weights[3], weights[4]) = (split.workPool, split.contributors);
        uint256[] memory roles = new uint256[](5);
        for (uint256 i; i < 5; ++i) roles[i] = i;
        uint256[] memory parts = Division.apportion(price, weights, roles);
        uint256[5] memory given = Parts.amounts(shares);
        for (uint256 i; i < 5; ++i) if (parts[i] != given[i]) return false;
        return true;
    }
}
