// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Commitment, hashCommitment} from "./Commitment.sol";
import {Escrow} from "./Escrow.sol";
import {Settlement} from "./Settlement.sol";

/// @title What all proof contracts share: which commitments they may be about, and what a proved fraud does.
/// @dev Nothing is stored and nobody is trusted: a call either shows, from what the commitment itself commits to, that the
/// commitment is wrong, or reverts. So a challenge of honest data reverts.
abstract contract Challenge {
    /// @dev Hash of the commitment of all zeros: what comes before a lane's first.
    bytes32 private constant NOTHING = keccak256(new bytes(13 * 32)) & ~bytes32(uint256(type(uint72).max));

    Settlement public immutable settlement;

    error NotFraud();
    error NotPrevious(uint64 epoch, uint64 follows);

    constructor(Settlement settlement_) {
        settlement = settlement_;
    }

    /// @dev The settlement is deployed after this: what it refers to is looked up.
    function _escrow() internal view returns (Escrow) {
        return settlement.escrow();
    }

    /// @dev The commitment before one that stands; all zeros before a lane's first.
    function _requirePrevious(address lane, Commitment calldata previous, Commitment calldata commitment) internal view {
        (,, uint64 follows,,) = settlement.posted(lane, commitment.epoch);
        bytes32 hash = NOTHING;
        if (follows != 0) (hash,,,,) = settlement.posted(lane, follows - 1);
        if (hashCommitment(previous) != hash) revert NotPrevious(previous.epoch, follows);
    }

    /// @dev Whether the commitment stands and can be challenged is held by the settlement.
    function _kill(address lane, Commitment calldata commitment, bytes32 reason) internal {
        settlement.kill(lane, commitment, msg.sender, reason);
    }

    function _requireFraud(bool fraud) internal pure {
        if (!fraud) revert NotFraud();
    }
}
