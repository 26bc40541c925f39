// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {Bonds} from "./Bonds.sol";

/// @notice A gradient index as its maker commits to it (protocol/attribution/index_trees.py makes the same roots).
/// Three plain Merkle trees: the rows, the running sums in the order of the rows, the contributors' sums in theirs.
/// `adapter` and `manifest` are the sha2-256 digests that name the adapter and the published index. `width` is a row's places,
/// `rowCount` the leaves of the first two trees, `sumCount` those of the third: the contributors.
struct IndexCommitment {
    address maker;
    bytes32 adapter;
    bytes32 manifest;
    bytes32 rowsRoot;
    bytes32 runningRoot;
    bytes32 sumsRoot;
    uint32 rowCount;
    uint32 sumCount;
    uint32 width;
}

/// @notice A row, `written` as indexes hold it: one byte of weight, then a bit a place, the first in the highest bit of its
/// byte, set where positive; a place's value is the weight with that sign. Leaf: keccak(0x00 ‖ row hash ‖ written).
struct RowOpening {
    bytes32 rowHash;
    bytes written;
    uint32 index;
    bytes32[] path;
}

/// @notice Whose a row is, and by the root of its chunks the sum of the contributor's rows up to and including it.
/// Leaf: keccak(0x00 ‖ contributor ‖ row hash ‖ sum root).
struct RunningLeaf {
    address contributor;
    bytes32 rowHash;
    bytes32 sumRoot;
    uint32 index;
    bytes32[] path;
}

/// @notice 1,024 places of a sum (the last chunk has what is left), a signed little-endian int32 each.
/// Leaf: keccak(0x00 ‖ numbers).
struct SumChunk {
    bytes numbers;
    bytes32[] path;
}

struct RunningSum {
    RunningLeaf leaf;
    SumChunk chunk;
}

/// @notice A contributor's sum, by which answers are scored, and behind which row its rows end.
/// Leaf: keccak(0x00 ‖ contributor ‖ end ‖ sum root).
struct ClosingLeaf {
    address contributor;
    uint32 end;
    bytes32 sumRoot;
    uint32 index;
    bytes32[] path;
}

/// @title Gradient indexes, as far as integers go.
/// @notice Whoever is bonded as an attributor, or else as a contributor, commits to the index that it publishes; that bond
/// answers for it. (An attributor is drawn to score others' answers: who only trains need not be one.) During a window
/// anyone may show in one transaction a row that is none, one that is there twice, rows that do not stand by their
/// contributors, or a sum that is not that of its rows: then the index is killed and the bond slashed. Whether a row is the
/// gradient of its text is recomputed by people.
/// @dev No sum overflows unseen: what follows is computed in 256 bits, and what no int32 holds equals none.
contract Indexes is ReentrancyGuard {
    struct Entry {
        uint64 committedAt;
        uint8 role;
        bool killed;
    }

    uint256 public constant CHUNK_PLACES = 1_024;
    uint256 public constant MAX_WIDTH = 1 << 17;
    uint8 public constant LIGHTEST = 8;
    uint8 public constant HEAVIEST = 64;
    uint256 private constant SUM_BYTES = 4;

    Bonds public immutable bonds;
    uint64 public immutable window;
    uint128 public immutable minimumBond;
    mapping(bytes32 id => Entry) public entries;

    event IndexCommitted(bytes32 indexed id, address indexed maker, IndexCommitment index);
    event IndexKilled(bytes32 indexed id, address indexed challenger, bytes32 reason, uint128 slashed);

    error BadTerms();
    error NotMaker(address maker);
    error AlreadyCommitted(bytes32 id);
    error UnknownIndex(bytes32 id);
    error AlreadyKilled(bytes32 id);
    error BondTooSmall(address maker, uint128 standing);
    error BadShape();
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

    /// @notice Commits the caller to an index of its own. Once.
    function commitIndex(IndexCommitment calldata index) external {
        if (index.maker != msg.sender) revert NotMaker(index.maker);
        uint8 role = bonds.ATTRIBUTOR();
        if (bonds.standing(msg.sender, role) < minimumBond) role = bonds.CONTRIBUTOR();
        uint128 standing = bonds.standing(msg.sender, role);
        if (standing < minimumBond) revert BondTooSmall(msg.sender, standing);
        if (index.sumCount == 0 || index.sumCount > index.rowCount) revert BadShape();
        if (index.width == 0 || index.width % 8 != 0 || index.width > MAX_WIDTH) revert BadShape();
        bytes32 id = indexId(index);
        if (entries[id].committedAt != 0) revert AlreadyCommitted(id);
        entries[id] = Entry(uint64(block.timestamp), role, false);
        emit IndexCommitted(id, msg.sender, index);
    }

    /// @notice Whether an index stands and its window has passed.
    function isGood(bytes32 id) external view returns (bool) {
        Entry storage entry = entries[id];
        return entry.committedAt != 0 && !entry.killed && block.timestamp >= entry.committedAt + window;
    }

    /// @notice A committed row that is none: another length, or a weight that no row has.
    function proveRow(IndexCommitment calldata index, RowOpening calldata row) external nonReentrant {
        _requireRow(index, row);
        bool whole = row.written.length == 1 + uint256(index.width) / 8;
        if (whole && uint8(row.written[0]) >= LIGHTEST && uint8(row.written[0]) <= HEAVIEST) revert NotFraud();
        _kill(index, "row is none");
    }

    /// @notice A running sum that does not follow: in one place it is not the one before plus the row.
    /// @param before the running sum just before; none at index 0. Its chunk is looked at where it is the same contributor's
    /// @param place where it is wrong; the chunks are those that hold it
    function proveSum(
        IndexCommitment calldata index,
        RowOpening calldata row,
        RunningSum[] calldata before,
        RunningSum calldata now_,
        uint32 place
    ) external nonReentrant {
        if (place >= index.width) revert BadProof();
        _requireRow(index, row);
        _requireSum(index, now_, place);
        if (now_.leaf.index != row.index || before.length != (row.index == 0 ? 0 : 1)) revert BadProof();
        int256 start;
        if (before.length == 1) {
            _requireRunning(index, before[0].leaf);
            if (uint256(before[0].leaf.index) + 1 != now_.leaf.index) revert BadProof();
            if (before[0].leaf.contributor == now_.leaf.contributor) {
                _requireSum(index, before[0], place);
                start = _numberAt(before[0].chunk.numbers, place);
            }
        }
        bool wrong = now_.leaf.rowHash != row.rowHash || now_.chunk.numbers.length != _chunkBytes(index.width, place)
            || _numberAt(now_.chunk.numbers, place) != start + _valueAt(row.written, place);
        if (!wrong) revert NotFraud();
        _kill(index, "sum does not follow");
    }

    /// @notice Two leaves that claim one row.
    function proveTwice(IndexCommitment calldata index, RunningLeaf calldata a, RunningLeaf calldata b)
        external
        nonReentrant
    {
        _requireRunning(index, a);
        _requireRunning(index, b);
        if (a.index == b.index || a.rowHash != b.rowHash) revert NotFraud();
        _kill(index, "row is there twice");
    }

    /// @notice Two rows next to each other whose contributors do not ascend: somebody's rows could stand in two places.
    function proveUnsorted(IndexCommitment calldata index, RunningLeaf calldata a, RunningLeaf calldata b)
        external
        nonReentrant
    {
        _requireRunning(index, a);
        _requireRunning(index, b);
        if (uint256(a.index) + 1 != b.index) revert BadProof();
        if (a.contributor <= b.contributor) revert NotFraud();
        _kill(index, "contributors are unsorted");
    }

    /// @notice A contributor's sum that is not the running sum at its last row.
    /// @param last the running sum at the row before `end`; none where no such row is
    function proveClosing(IndexCommitment calldata index, ClosingLeaf calldata closing, RunningLeaf[] calldata last)
        external
        nonReentrant
    {
        _requireClosing(index, closing);
        if (closing.end != 0 && closing.end <= index.rowCount) {
            if (last.length != 1 || uint256(last[0].index) + 1 != closing.end) revert BadProof();
            _requireRunning(index, last[0]);
            if (last[0].contributor == closing.contributor && last[0].sumRoot == closing.sumRoot) revert NotFraud();
        }
        _kill(index, "closing sum differs");
    }

    /// @notice A contributor's rows that do not begin where those of the one before end, or that do not reach the last row
    /// though nobody follows: some rows are in nobody's sum.
    /// @param before the contributor before; none at index 0
    /// @param first the running sum at the first row behind those of the one before; none where there is no such row
    function proveGap(
        IndexCommitment calldata index,
        ClosingLeaf[] calldata before,
        ClosingLeaf calldata closing,
        RunningLeaf[] calldata first
    ) external nonReentrant {
        _requireClosing(index, closing);
        if (before.length != (closing.index == 0 ? 0 : 1)) revert BadProof();
        uint256 start;
        if (before.length == 1) {
            _requireClosing(index, before[0]);
            if (uint256(before[0].index) + 1 != closing.index) revert BadProof();
            start = before[0].end;
        }
        bool isLast = uint256(closing.index) + 1 == index.sumCount;
        if (closing.end > start && (!isLast || closing.end == index.rowCount)) {
            if (first.length != 1 || first[0].index != start) revert BadProof();
            _requireRunning(index, first[0]);
            if (first[0].contributor == closing.contributor) revert NotFraud();
        }
        _kill(index, "rows are in no sum");
    }

    function _kill(IndexCommitment calldata index, bytes32 reason) private {
        bytes32 id = indexId(index);
        Entry storage entry = entries[id];
        if (entry.committedAt == 0) revert UnknownIndex(id);
        if (entry.killed) revert AlreadyKilled(id);
        uint64 last = entry.committedAt + window;
        if (block.timestamp >= last) revert WindowClosed(last);
        entry.killed = true;
        uint128 slashed = bonds.slash(index.maker, entry.role, type(uint128).max, msg.sender);
        emit IndexKilled(id, msg.sender, reason, slashed);
    }

    function _valueAt(bytes calldata written, uint256 place) private pure returns (int256) {
        int256 weight = int256(uint256(uint8(written[0])));
        bool positive = (uint8(written[1 + place / 8]) >> (7 - place % 8)) & 1 == 1;
        return positive ? weight : -weight;
    }

    function _numberAt(bytes calldata numbers, uint256 place) private pure returns (int256) {
        uint32 value;
        uint256 start = (place % CHUNK_PLACES) * SUM_BYTES;
        for (uint256 i = SUM_BYTES; i > 0; --i) value = (value << 8) | uint8(numbers[start + i - 1]);
        return int32(value);
    }

    function _chunkBytes(uint256 width, uint256 place) private pure returns (uint256) {
        uint256 left = width - (place - place % CHUNK_PLACES);
        return SUM_BYTES * (left < CHUNK_PLACES ? left : CHUNK_PLACES);
    }

    function _requireRow(IndexCommitment calldata index, RowOpening calldata row) private pure {
        bytes32 leaf = keccak256(abi.encodePacked(bytes1(0x00), row.rowHash, row.written));
        _requireLeaf(index.rowsRoot, index.rowCount, leaf, row.index, row.path);
    }

    function _requireRunning(IndexCommitment calldata index, RunningLeaf calldata running) private pure {
        bytes32 leaf =
            keccak256(abi.encodePacked(bytes1(0x00), running.contributor, running.rowHash, running.sumRoot));
        _requireLeaf(index.runningRoot, index.rowCount, leaf, running.index, running.path);
    }

    /// @dev The leaf and the chunk of its sum that holds a place.
    function _requireSum(IndexCommitment calldata index, RunningSum calldata sum, uint256 place) private pure {
        _requireRunning(index, sum.leaf);
        uint256 chunks = (uint256(index.width) + CHUNK_PLACES - 1) / CHUNK_PLACES;
        bytes32 leaf = keccak256(abi.encodePacked(bytes1(0x00), sum.chunk.numbers));
        _requireLeaf(sum.leaf.sumRoot, chunks, leaf, place / CHUNK_PLACES, sum.chunk.path);
    }

    function _requireClosing(IndexCommitment calldata index, ClosingLeaf calldata closing) private pure {
        bytes32 leaf = keccak256(abi.encodePacked(bytes1(0x00), closing.contributor, closing.end, closing.sumRoot));
        _requireLeaf(index.sumsRoot, index.sumCount, leaf, closing.index, closing.path);
    }

    function _requireLeaf(bytes32 root, uint256 count, bytes32 hash, uint256 position, bytes32[] calldata path)
        private
        pure
    {
        uint256 depth = path.length;
        if (position >= count || depth > 32 || (uint256(1) << depth) < count) revert BadProof();
        if (depth > 0 && (uint256(1) << (depth - 1)) >= count) revert BadProof();
        for (uint256 i; i < depth; ++i) {
            hash = position & 1 == 0
                ? keccak256(abi.encodePacked(bytes1(0x01), hash, path[i]))
                : keccak256(abi.encodePacked(bytes1(0x01), path[i], hash));
            position >>= 1;
        }
        if (hash != root) revert BadProof();
    }
}
