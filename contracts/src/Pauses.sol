// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The guardian's switch.
/// @notice While it is on, nobody deposits, redeems or posts. It never keeps anybody from claiming, withdrawing or
/// challenging, and it goes off by itself: at most 14 days at a time, and then off for at least as long as it was on.
/// @dev Part of Settlement, which posting reads it in; the Escrow asks there.
abstract contract Pauses {
    uint64 public constant LONGEST = 14 days;

    /// @notice The only account that may pause. Immutable.
    address public immutable guardian;
    uint64 public pausedUntil;
    /// @notice From when on it may be paused again.
    uint64 public nextPause;

    event Paused(uint64 until);

    error NotGuardian(address caller);
    error BadDuration(uint64 duration);
    error PausedTooRecently(uint64 nextPause);

    constructor(address guardian_) {
        guardian = guardian_;
    }

    /// @notice Pauses for `duration` seconds.
    function pause(uint64 duration) external {
        if (msg.sender != guardian) revert NotGuardian(msg.sender);
        if (duration == 0 || duration > LONGEST) revert BadDuration(duration);
        if (block.timestamp < nextPause) revert PausedTooRecently(nextPause);
        pausedUntil = uint64(block.timestamp) + duration;
        nextPause = pausedUntil + duration;
        emit Paused(pausedUntil);
    }

    /// @notice Ends a pause early. The next one is possible no sooner for it.
    function unpause() external {
        if (msg.sender != guardian) revert NotGuardian(msg.sender);
        pausedUntil = uint64(block.timestamp);
        emit Paused(pausedUntil);
    }

    function paused() public view virtual returns (bool) {
        return block.timestamp < pausedUntil;
    }
}
