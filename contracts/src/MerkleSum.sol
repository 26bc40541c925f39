// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Merkle trees whose nodes carry the sum of the amounts beneath them.
/// @notice node = keccak256(0x01 ‖ left hash ‖ left sum ‖ right hash ‖ right sum), sums as 16 bytes big-endian.
/// Leaves are padded to the next power of two with (0, 0); a tree of one leaf is that leaf.
/// @dev BOTH children's sums are in the preimage. With only the total in it (Maxwell's first form) a prover can move
/// money between siblings: https://eprint.iacr.org/2018/1139. Leaves are hashed under the prefix 0x00 by their own
/// contract, so that no node passes for a leaf.
library MerkleSum {
    /// @notice A sibling on the way up.
    struct Step {
        bytes32 hash;
        uint128 sum;
    }

    error BadProof();

    /// @notice The root and total that leaf `index` of `count` leads to.
    /// @dev The depth must be exactly that of a tree of `count` leaves: a shorter or longer path would let an inner
    /// node or a padding leaf stand in. Checked addition: a total that overflows is no total. Where all to the right is
    /// padding it carries nothing: no amount hides beyond the count, as the last leaf could not be shown.
    function climb(bytes32 hash, uint128 sum, uint32 index, uint32 count, Step[] calldata path)
        internal
        pure
        returns (bytes32, uint128)
    {
        uint256 depth = path.length;
        if (index >= count || depth > 32 || (uint256(1) << depth) < count) revert BadProof();
        if (depth > 0 && (uint256(1) << (depth - 1)) >= count) revert BadProof();
        uint256 position = index;
        for (uint256 i; i < depth; ++i) {
            Step calldata step = path[i];
            if (step.sum != 0 && position & 1 == 0 && (position + 1) << i >= count) revert BadProof();
            hash = position & 1 == 0
                ? keccak256(abi.encodePacked(bytes1(0x01), hash, sum, step.hash, step.sum))
                : keccak256(abi.encodePacked(bytes1(0x01), step.hash, step.sum, hash, sum));
            sum += step.sum;
            position >>= 1;
        }
        return (hash, sum);
    }

    /// @notice The sum of all leaves before leaf `index`, of a path that `climb` has accepted.
    function sumBefore(uint32 index, Step[] calldata path) internal pure returns (uint128 sum) {
        uint256 position = index;
        for (uint256 i; i < path.length; ++i) {
            if (position & 1 == 1) sum += path[i].sum;
            position >>= 1;
        }
    }
}
