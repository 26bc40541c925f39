// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {Bonds} from "./Bonds.sol";

/// @notice A gradient index of int8 vectors as its maker commits to it. Nodes' rows have since become one bit a place and a
/// byte of weight: they commit nothing here, and whoever checks an answer adds their rows up off chain (docs/settlement.md).
/// `rowsRoot`: plain Merkle tree over keccak(0x00 ‖ row hash ‖ vector), the vector `width` int8s. `runningRoot`: over
/// keccak(0x00 ‖ contributor ‖ row hash ‖ keccak(sum)), where sum is the sum of the contributor's vectors up to and including
/// this row, `width` little-endian int64s. Both in the order of the rows.
struct IndexCommitment {
    bytes32 adapter;
    bytes32 manifest;
    bytes32 rowsRoot;
    bytes32 runningRoot;
    uint32 rowCount;
    uint32 width;
}

struct RowOpening {
    bytes32 rowHash;
    bytes vector;
    uint32 index;
    bytes32[] path;
}

struct SumOpening {
    address contributor;
    bytes32 rowHash;
    bytes sum;
    uint32 index;
    bytes32[] path;
}

/// @title Gradient indexes, as far as integers go.
/// @notice A bonded attributor commits to an index; it counts after a window in which anyone may show a row that is none, or
/// a sum that is not the sum of its rows. Whether a row is the gradient of its text is recomputed by people, not here.
contract Indexes is ReentrancyGuard {
    struct Entry {
        address attributor;
        uint64 committedAt;
    }

    uint256 private constant SUM_BYTES = 8;

    Bonds public immutable bonds;
    uint64 public immutable window;
    uint128 public immutable minimumBond;
    mapping(bytes32 id => Entry) public entries;

    event IndexCommitted(bytes32 indexed id, address indexed attributor, IndexCommitment index);
    event IndexKilled(bytes32 indexed id, address indexed challenger, bytes32 reason, uint128 slashed);

    error BadTerms();
    error AlreadyCommitted(bytes32 id);
    error UnknownIndex(bytes32 id);
    error BondTooSmall(address attributor, uint128 standing);
    error EmptyIndex();
    error WindowClosed(uint64 since);
    error BadProof();
    error NotFraud();

    constructor(Bonds bonds_, uint64 window_, uint128 minimumBond_) {
        if (bonds_.thawPeriod() <= window_) revert BadTerms();
        bonds = bonds_;
        window = window_;
        minimumBond = minimumBond_;
    }

    function indexId(IndexCommitment calldata index) public pure returns (bytes32) {
        return keccak256(abi.encode(index));
    }

    /// @notice Commits the caller to an index. Once.
    function commitIndex(IndexCommitment calldata index) external {
        uint128 standing = bonds.standing(msg.sender, bonds.ATTRIBUTOR());
        if (standing < minimumBond) revert BondTooSmall(msg.sender, standing);
        if (index.rowCount == 0 || index.width == 0) revert EmptyIndex();
        bytes32 id = indexId(index);
        if (entries[id].committedAt != 0) revert AlreadyCommitted(id);
        entries[id] = Entry(msg.sender, uint64(block.timestamp));
        emit IndexCommitted(id, msg.sender, index);
    }

    /// @notice Whether an index stands and its window has passed.
    function isGood(bytes32 id) external view returns (bool) {
        Entry storage entry = entries[id];
        return entry.attributor != address(0) && block.timestamp >= entry.committedAt + window;
    }

    /// @notice A committed row that is no vector of the index: another width, or the value -128, which does not occur.
    /// @param place where that value is; ignored where the width is wrong
    function proveRow(IndexCommitment calldata index, RowOpening calldata row, uint32 place) external nonReentrant {
        _requireRow(index, row);
        if (row.vector.length == index.width && row.vector[place] != 0x80) revert NotFraud();
        _kill(index, "row is no vector");
    }

    /// @notice A running sum that is not the one before plus the row, in one place.
    /// @param before the running sum just before; none at index 0
    function proveSum(
        IndexCommitment calldata index,
        RowOpening calldata row,
        SumOpening[] calldata before,
        SumOpening calldata now_,
        uint32 place
    ) external nonReentrant {
        _requireRow(index, row);
        _requireSum(index, now_);
        if (now_.index != row.index || before.length != (row.index == 0 ? 0 : 1)) revert BadProof();
        int256 start;
        if (before.length == 1) {
            _requireSum(index, before[0]);
            if (uint256(before[0].index) + 1 != now_.index) revert BadProof();
            if (before[0].contributor == now_.contributor) start = _sumAt(before[0].sum, place);
        }
        bool wrong = now_.rowHash != row.rowHash || now_.sum.length != uint256(index.width) * SUM_BYTES
            || _sumAt(now_.sum, place) != start + int8(uint8(row.vector[place]));
        if (!wrong) revert NotFraud();
        _kill(index, "sum is not of its rows");
    }

    function _kill(IndexCommitment calldata index, bytes32 reason) private {
        bytes32 id = indexId(index);
        Entry storage entry = entries[id];
        address attributor = entry.attributor;
        if (attributor == address(0)) revert UnknownIndex(id);
        uint64 last = entry.committedAt + window;
        if (block.timestamp >= last) revert WindowClosed(last);
        // committedAt stays: what was shown to be wrong is not committed again.
        entry.attributor = address(0);
        uint128 slashed = bonds.slash(attributor, bonds.ATTRIBUTOR(), type(uint128).max, msg.sender);
        emit IndexKilled(id, msg.sender, reason, slashed);
    }

    function _sumAt(bytes calldata sum, uint32 place) private pure returns (int256) {
        uint64 value;
        uint256 start = uint256(place) * SUM_BYTES;
        for (uint256 i = SUM_BYTES; i > 0; --i) value = (value << 8) | uint8(sum[start + i - 1]);
        return int64(value);
    }

    function _requireRow(IndexCommitment calldata index, RowOpening calldata row) private pure {
        bytes32 leaf = keccak256(abi.encodePacked(bytes1(0x00), row.rowHash, row.vector));
        _requireLeaf(index.rowsRoot, index.rowCount, leaf, row.index, row.path);
    }

    function _requireSum(IndexCommitment calldata index, SumOpening calldata opening) private pure {
        bytes32 leaf =
            keccak256(abi.encodePacked(bytes1(0x00), opening.contributor, opening.rowHash, keccak256(opening.sum)));
        _requireLeaf(index.runningRoot, index.rowCount, leaf, opening.index, opening.path);
    }

    function _requireLeaf(bytes32 root, uint32 count, bytes32 hash, uint32 index, bytes32[] calldata path) private pure {
        uint256 depth = path.length;
        if (index >= count || depth > 32 || (uint256(1) << depth) < count) revert BadProof();
        if (depth > 0 && (uint256(1) << (depth - 1)) >= count) revert BadProof();
        uint256 position = index;
        for (uint256 i; i < depth; ++i) {
            hash = position & 1 == 0
                ? keccak256(abi.encodePacked(bytes1(0x01), hash, path[i]))
                : keccak256(abi.encodePacked(bytes1(0x01), path[i], hash));
            position >>= 1;
        }
        if (hash != root) revert BadProof();
    }
}
