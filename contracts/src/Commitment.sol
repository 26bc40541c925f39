// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice What a lane says about an epoch. Its hash is keccak256(abi.encode(commitment)) with the last 9 bytes zero: 184
/// bits, so that hash and times fit one slot and two commitments of one hash still cost 2^92 trials.
/// @dev receiptRoot: the epoch's receipts by id, none of them in an earlier commitment. lineRoot: one line for each part of
/// these receipts (an adapter's, or the whole), by pool. earningsRoot: cumulative earnings through the commitment before, by account. The two credit
/// roots hold, in two orders, what accounts earn from the receipts of the commitment before. dataHash: where all of it is
/// published.
struct Commitment {
    uint64 epoch;
    bytes32 receiptRoot;
    bytes32 earningsRoot;
    uint128 receiptSum;
    uint128 cumulativeTotal;
    uint32 receiptCount;
    uint32 accountCount;
    bytes32 dataHash;
    bytes32 lineRoot;
    bytes32 accountCreditRoot;
    bytes32 poolCreditRoot;
    uint32 creditCount;
    uint32 lineCount;
}

function hashCommitment(Commitment calldata commitment) pure returns (bytes32) {
    return keccak256(abi.encode(commitment)) & ~bytes32(uint256(type(uint72).max));
}
