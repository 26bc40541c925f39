// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Challenge} from "./Challenge.sol";
import {Commitment} from "./Commitment.sol";
import {CreditLeaf, Leaves, LineLeaf, ReceiptOpening} from "./Leaves.sol";
import {Registry} from "./Registry.sol";
import {Settlement} from "./Settlement.sol";
import {Span, Spans} from "./Spans.sol";

/// @notice An adapter's record with the lists that its lineage is the hash of.
struct Ancestor {
    bytes32 recordId;
    bytes32[] datanets;
    bytes32[] parents;
}

/// @notice A receipt with a line of it: which adapter's pool that part is in, and of which epoch.
struct Served {
    LineLeaf line;
    ReceiptOpening opening;
}

/// @notice Two neighbours among a Datanet version's sorted contributors; `isLeft` or `isRight` is false beyond the ends.
struct ContributorGap {
    bool isLeft;
    address left;
    uint256 leftIndex;
    bytes32[] leftPath;
    bool isRight;
    address right;
    bytes32[] rightPath;
}

/// @title Frauds in a commitment's credits: who earns what from the receipts of the commitment before.
/// @notice Together they say: both orders hold the same credits, a pool's roles earn exactly its totals, platform, worker,
/// author and work pool are the right accounts, and contributors are among the contributors of the Datanets that the adapter
/// or its ancestors registered. How contributors share is not decided here.
contract CreditProofs is Challenge {
    uint8 private constant PLATFORM = 0;
    uint8 private constant WORKER = 1;
    uint8 private constant AUTHOR = 2;
    uint8 private constant WORK_POOL = 3;
    uint8 private constant CONTRIBUTOR = 4;

    constructor(Settlement settlement_) Challenge(settlement_) {}

    /// @notice Two neighbours that do not ascend.
    function proveUnsorted(
        address lane,
        Commitment calldata previous,
        Commitment calldata commitment,
        bool byPool,
        CreditLeaf calldata a,
        CreditLeaf calldata b
    ) external {
        _requirePrevious(lane, previous, commitment);
        Leaves.requireCredit(previous, commitment, byPool, a);
        Leaves.requireCredit(previous, commitment, byPool, b);
        _requireFraud(uint256(a.index) + 1 == b.index && !Leaves.creditIsBefore(a, b, byPool));
        _kill(lane, commitment, "credits unsorted");
    }

    /// @notice A credit in one order (by pool, if `byPool`) that is missing, or another amount, in the other.
    /// @dev There are as many in both: none missing from one is none too many in the other.
    function proveMissing(
        address lane,
        Commitment calldata previous,
        Commitment calldata commitment,
        bool byPool,
        CreditLeaf calldata credit,
        CreditLeaf[] calldata other
    ) external {
        _requirePrevious(lane, previous, commitment);
        Leaves.requireCredit(previous, commitment, byPool, credit);
        for (uint256 i; i < other.length; ++i) Leaves.requireCredit(previous, commitment, !byPool, other[i]);
        _requireFraud(_isMissing(commitment.creditCount, byPool, credit, other));
        _kill(lane, commitment, "credit in one order only");
    }

    /// @notice A role's credits of a pool are not what the pool's receipts give to the role.
    /// @param last the last line of the pool in the commitment before, and the line after it where there is one
    function provePoolSum(
        address lane,
        Commitment calldata previous,
        Commitment calldata commitment,
        uint8 role,
        LineLeaf[] calldata last,
        Span calldata credits
    ) external {
        _requirePrevious(lane, previous, commitment);
        bytes32 pool = _requireLastLine(previous, last);
        uint256 sum = Spans.sumOfRole(previous, commitment, pool, role, credits);
        _requireFraud(sum != last[0].totals[role]);
        _kill(lane, commitment, "credits are not the pool's");
    }

    /// @notice Platform, worker, author or work pool is not who is credited; or there is no such role, or no amount.
    /// @param line a line of the credit's pool in the commitment before, which names the author (for that role only)
    function proveWrongAccount(
        address lane,
        Commitment calldata previous,
        Commitment calldata commitment,
        CreditLeaf calldata credit,
        LineLeaf[] calldata line
    ) external {
        _requirePrevious(lane, previous, commitment);
        Leaves.requireCredit(previous, commitment, true, credit);
        if (credit.role == AUTHOR) {
            Leaves.requireLine(previous, line[0]);
            _requireFraud(Leaves.poolOf(line[0]) == credit.pool && line[0].author != credit.account);
        } else {
            _requireFraud(credit.amount == 0 || credit.role > CONTRIBUTOR || _isAnother(lane, commitment.epoch, credit));
        }
        _kill(lane, commitment, "credit to a wrong account");
    }

    /// @notice A contributor is credited who contributed to no Datanet of the lineage of the adapter in whose pool it is. So
    /// each part of a receipt by several adapters is judged by its own adapter.
    /// @dev A record binds who served the adapter after it: a worker can look before it serves, and who registers something
    /// else than a manifest says afterwards makes no honest commitment wrong.
    /// @param served a receipt of the pool in the commitment before, of an epoch that began after the adapter was registered
    /// @param ancestry the adapter's record first, then every record reached through parents
    /// @param gaps for each Datanet of each of these records, in their order, where the contributor would stand
    function proveOutsideLineage(
        address lane,
        Commitment calldata previous,
        Commitment calldata commitment,
        CreditLeaf calldata credit,
        Served calldata served,
        Ancestor[] calldata ancestry,
        ContributorGap[] calldata gaps
    ) external {
        _requirePrevious(lane, previous, commitment);
        Leaves.requireCredit(previous, commitment, true, credit);
        _requireFraud(credit.role == CONTRIBUTOR && ancestry[0].recordId == credit.pool);
        _requireFraud(_isBound(previous, credit.pool, served));
        _requireOutside(credit.account, ancestry, gaps);
        _kill(lane, commitment, "contributor outside the lineage");
    }

    function _requireOutside(address account, Ancestor[] calldata ancestry, ContributorGap[] calldata gaps) private view {
        Registry registry = settlement.registry();
        uint256 next;
        for (uint256 i; i < ancestry.length; ++i) {
            _requireAncestor(registry, ancestry, i);
            for (uint256 d; d < ancestry[i].datanets.length; ++d) {
                (, bytes32 root,) = registry.datanets(ancestry[i].datanets[d]);
                _requireFraud(_isAbsent(root, account, gaps[next++]));
            }
        }
    }

    // ---- checks -----------------------------------------------------------------------------------------------------

    function _isMissing(uint32 count, bool byPool, CreditLeaf calldata credit, CreditLeaf[] calldata other)
        private
        pure
        returns (bool)
    {
        if (other.length == 0) return count == 0;
        bool left = Leaves.creditIsBefore(other[0], credit, !byPool);
        if (other.length == 2) {
            return left && Leaves.creditIsBefore(credit, other[1], !byPool)
                && Leaves.isGap(true, other[0].index, true, other[1].index, count);
        }
        bool right = Leaves.creditIsBefore(credit, other[0], !byPool);
        if (!left && !right) return other[0].amount != credit.amount;
        return other.length == 1 && Leaves.isGap(left, other[0].index, right, other[0].index, count);
    }

    function _requireLastLine(Commitment calldata previous, LineLeaf[] calldata last) private pure returns (bytes32 pool) {
        Leaves.requireLine(previous, last[0]);
        pool = Leaves.poolOf(last[0]);
        if (last.length == 1) {
            _requireFraud(uint256(last[0].index) + 1 == previous.lineCount);
        } else {
            Leaves.requireLine(previous, last[1]);
            _requireFraud(uint256(last[0].index) + 1 == last[1].index && Leaves.poolOf(last[1]) > pool);
        }
    }

    /// @dev The worker's share is its lane's or the lane's owner's; of a successor, who did what the worker did not, its own.
    function _isAnother(address lane, uint64 epoch, CreditLeaf calldata credit) private view returns (bool) {
        if (credit.role == PLATFORM) return credit.account != settlement.platform();
        if (credit.role == WORK_POOL) return credit.account != settlement.workPool();
        if (credit.role != WORKER) return false;
        (,,, address poster, bool succeeded) = settlement.posted(lane, epoch);
        if (succeeded) return credit.account != poster;
        return credit.account != lane && credit.account != _escrow().ownerOf(lane);
    }

    /// @dev Whether a receipt of the pool was served when the adapter had been registered.
    function _isBound(Commitment calldata previous, bytes32 pool, Served calldata served) private view returns (bool) {
        Leaves.requireLine(previous, served.line);
        Leaves.requireOpening(previous, served.opening, _escrow());
        if (Leaves.poolOf(served.line) != pool || served.opening.id != served.line.receiptId) return false;
        (,,, uint64 registeredAt) = settlement.registry().adapters(pool);
        uint64 begin = settlement.genesis() + served.opening.receipt.epoch * settlement.epochLength();
        return registeredAt != 0 && registeredAt < begin;
    }

    function _requireAncestor(Registry registry, Ancestor[] calldata ancestry, uint256 which) private view {
        Ancestor calldata entry = ancestry[which];
        (, bytes32 lineage,,) = registry.adapters(entry.recordId);
        _requireFraud(lineage == keccak256(abi.encode(entry.datanets, entry.parents)));
        for (uint256 p; p < entry.parents.length; ++p) {
            bool listed;
            for (uint256 i; i < ancestry.length && !listed; ++i) listed = ancestry[i].recordId == entry.parents[p];
            _requireFraud(listed);
        }
    }

    /// @dev A plain tree over sorted accounts, whose count is not on chain: it is padded with zero leaves to a power of two,
    /// and a leaf's index is the way its path turns. So the last one has padding to its right, or nothing.
    function _isAbsent(bytes32 root, address account, ContributorGap calldata gap) private pure returns (bool) {
        uint256 rightIndex = gap.isLeft ? gap.leftIndex + 1 : 0;
        if (gap.isLeft) {
            bytes32 leaf = keccak256(abi.encodePacked(bytes1(0x00), gap.left));
            if (gap.left >= account || _climb(leaf, gap.leftIndex, gap.leftPath) != root) return false;
            if (!gap.isRight && rightIndex == uint256(1) << gap.leftPath.length) return true;
            if (gap.rightPath.length != gap.leftPath.length) return false;
        } else if (!gap.isRight) {
            return false;
        }
        bytes32 right = gap.isRight ? keccak256(abi.encodePacked(bytes1(0x00), gap.right)) : bytes32(0);
        return (!gap.isRight || account < gap.right) && _climb(right, rightIndex, gap.rightPath) == root;
    }

    function _climb(bytes32 hash, uint256 index, bytes32[] calldata path) private pure returns (bytes32) {
        if (path.length < 256 && index >> path.length != 0) return 0;
        for (uint256 i; i < path.length; ++i) {
            hash = index & 1 == 0
                ? keccak256(abi.encodePacked(bytes1(0x01), hash, path[i]))
                : keccak256(abi.encodePacked(bytes1(0x01), path[i], hash));
            index >>= 1;
        }
        return hash;
    }
}
