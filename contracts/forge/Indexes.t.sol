// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Bonds} from "../src/Bonds.sol";
import {IndexCommitment, Indexes, RowOpening, RunningLeaf, RunningSum, SumChunk} from "../src/Indexes.sol";

/// @notice What is shown of an index: just what is wrong with it. forge draws the values of `testFuzz_`, halmos takes all of
/// `check_`.
/// @dev This contract stands for the bonds, which the indexes only ask, and is every maker and challenger.
contract IndexesTest {
    Indexes internal indexes;
    bytes32[] internal none;

    function setUp() public {
        indexes = new Indexes(Bonds(address(this)), 1_000, 0);
    }

    // ---- what the indexes ask for

    function thawPeriod() external pure returns (uint64) {
        return 1_001;
    }

    function ATTRIBUTOR() external pure returns (uint8) {
        return 4;
    }

    function CONTRIBUTOR() external pure returns (uint8) {
        return 2;
    }

    function standing(address, uint8) external pure returns (uint128) {
        return 1;
    }

    function slash(address, uint8, uint128, address) external pure returns (uint128) {
        return 1;
    }

    // ---- one row

    /// @dev An index of one row of eight places, whose running sum is any eight numbers: it is shown wrong in a place just
    /// where the number there is not the row's.
    function check_aSumIsShownJustWhereItsFirstPlaceIsWrong(uint8 weight, uint8 signs, bytes32 numbers) public {
        _checkSum(weight, signs, numbers, 0);
    }

    function check_aSumIsShownJustWhereItsLastPlaceIsWrong(uint8 weight, uint8 signs, bytes32 numbers) public {
        _checkSum(weight, signs, numbers, 7);
    }

    function _checkSum(uint8 weight, uint8 signs, bytes32 numbers, uint8 place) private {
        bytes memory written = abi.encodePacked(weight, signs);
        bytes32 sumRoot = keccak256(abi.encodePacked(bytes1(0x00), numbers));
        IndexCommitment memory index = _commit(_rowLeaf(1, written), _runningLeaf(address(9), 1, sumRoot), 1);
        RunningSum memory sum = RunningSum(_running(address(9), 1, sumRoot, 0), SumChunk(abi.encodePacked(numbers), none));
        bool taken = _prove(index, RowOpening(bytes32(uint256(1)), written, 0, none), new RunningSum[](0), sum, place);
        bool positive = (signs >> (7 - place)) & 1 == 1;
        int256 due = positive ? int256(uint256(weight)) : -int256(uint256(weight));
        assert(taken == (_number(numbers, place) != due));
    }

    /// @dev A row of two bytes is shown to be none just where its weight lies outside the bounds.
    function check_aRowIsShownJustWhereItsWeightIsNone(uint8 weight, uint8 signs) public {
        bytes memory written = abi.encodePacked(weight, signs);
        IndexCommitment memory index = _commit(_rowLeaf(1, written), bytes32(uint256(1)), 1);
        bool taken;
        try indexes.proveRow(index, RowOpening(bytes32(uint256(1)), written, 0, none)) {
            taken = true;
        } catch {}
        assert(taken == (weight < 8 || weight > 64));
    }

    // ---- two rows

    /// @dev The second sum of one contributor, or of another, with `off` in one place.
    function testFuzz_onlyAWrongSecondSumIsShown(uint8[2] memory weights, uint8[2] memory signs, uint8 place, int32 off, bool same)
        public
    {
        place %= 8;
        int32[8] memory first = _valuesOf(weights[0], signs[0]);
        int32[8] memory second = _valuesOf(weights[1], signs[1]);
        int256 due = int256(second[place]) + (same ? first[place] : int32(0));
        for (uint256 i; i < 8; ++i) if (same) second[i] += first[i];
        unchecked {
            second[place] += off;
        }
        RunningSum[] memory before = new RunningSum[](1);
        RunningSum memory now_;
        RowOpening memory row;
        IndexCommitment memory index;
        (index, row, before[0], now_) = _two(weights, signs, first, second, same ? address(8) : address(9));
        assert(_prove(index, row, before, now_, place) == (second[place] != due));
    }

    function _two(uint8[2] memory weights, uint8[2] memory signs, int32[8] memory first, int32[8] memory second, address owner)
        private
        returns (IndexCommitment memory index, RowOpening memory row, RunningSum memory before, RunningSum memory now_)
    {
        bytes memory numbers = _written(first);
        bytes memory later = _written(second);
        bytes32[2] memory roots =
            [keccak256(abi.encodePacked(bytes1(0x00), numbers)), keccak256(abi.encodePacked(bytes1(0x00), later))];
        bytes memory written = abi.encodePacked(weights[1], signs[1]);
        row = RowOpening(bytes32(uint256(2)), written, 1, new bytes32[](1));
        row.path[0] = _rowLeaf(1, abi.encodePacked(weights[0], signs[0]));
        before = RunningSum(_running(address(8), 1, roots[0], 0), SumChunk(numbers, none));
        now_ = RunningSum(_running(owner, 2, roots[1], 1), SumChunk(later, none));
        before.leaf.path = new bytes32[](1);
        now_.leaf.path = new bytes32[](1);
        before.leaf.path[0] = _runningLeaf(owner, 2, roots[1]);
        now_.leaf.path[0] = _runningLeaf(address(8), 1, roots[0]);
        index = _commit(
            _node(row.path[0], _rowLeaf(2, written)), _node(now_.leaf.path[0], before.leaf.path[0]), 2
        );
    }

    // ---- leaves

    function check_runningLeavesAreInjective(address a, bytes32 x, bytes32 y, address b, bytes32 z, bytes32 w) public pure {
        bytes32 one = keccak256(abi.encodePacked(bytes1(0x00), a, x, y));
        bytes32 two = keccak256(abi.encodePacked(bytes1(0x00), b, z, w));
        if (one == two) assert(a == b && x == z && y == w);
    }

    function check_closingLeavesAreInjective(address a, uint32 x, bytes32 y, address b, uint32 z, bytes32 w) public pure {
        bytes32 one = keccak256(abi.encodePacked(bytes1(0x00), a, x, y));
        bytes32 two = keccak256(abi.encodePacked(bytes1(0x00), b, z, w));
        if (one == two) assert(a == b && x == z && y == w);
    }

    // ---- making them

    /// @dev Of rows of eight places.
    function _commit(bytes32 rows, bytes32 running, uint32 count) private returns (IndexCommitment memory) {
        IndexCommitment memory index = IndexCommitment(address(this), 0, 0, rows, running, 0, count, 1, 8);
        indexes.commitIndex(index);
        return index;
    }

    function _prove(
        IndexCommitment memory index,
        RowOpening memory row,
        RunningSum[] memory before,
        RunningSum memory now_,
        uint32 place
    ) private returns (bool) {
        try indexes.proveSum(index, row, before, now_, place) {
            return true;
        } catch {
            return false;
        }
    }

    function _running(address owner, uint256 rowHash, bytes32 sumRoot, uint32 place) private view returns (RunningLeaf memory) {
        return RunningLeaf(owner, bytes32(rowHash), sumRoot, place, none);
    }

    function _runningLeaf(address owner, uint256 rowHash, bytes32 sumRoot) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0x00), owner, rowHash, sumRoot));
    }

    function _rowLeaf(uint256 rowHash, bytes memory written) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0x00), rowHash, written));
    }

    function _node(bytes32 left, bytes32 right) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0x01), left, right));
    }

    function _valuesOf(uint8 weight, uint8 signs) private pure returns (int32[8] memory values) {
        for (uint256 i; i < 8; ++i) {
            int32 size = int32(uint32(weight));
            values[i] = (signs >> (7 - i)) & 1 == 1 ? size : -size;
        }
    }

    function _written(int32[8] memory values) private pure returns (bytes memory numbers) {
        numbers = new bytes(32);
        for (uint256 i; i < 32; ++i) numbers[i] = bytes1(uint8(uint32(values[i / 4]) >> (8 * (i % 4))));
    }

    /// @dev The little-endian int32 in a place of a chunk of eight.
    function _number(bytes32 numbers, uint256 place) private pure returns (int256) {
        uint32 big = uint32(uint256(numbers) >> (224 - 32 * place));
        uint32 swapped = (big >> 24) | ((big >> 8) & 0xff00) | ((big << 8) & 0xff0000) | (big << 24);
        return int256(int32(swapped));
    }
}
