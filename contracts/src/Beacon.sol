// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Till} from "./Till.sol";

/// @title A random seed a round: what participants committed to and revealed, mixed with a later block's hash.
/// @notice A round's first half takes commitments with a stake, the second half reveals; who does not reveal loses the stake.
/// Then a block to come is named, and its hash is mixed in: so the last to reveal does not know what he chooses between, and
/// pays for withholding.
/// @dev What was revealed is public before the named block is made. So its maker sees which seed each block that he could
/// make would give: he may try many, or leave his turn to the next, at the price of a block's reward. Where that is worth
/// more than a block, take entropy that its maker cannot see ahead.
contract Beacon is Till {
    using SafeERC20 for IERC20;

    struct Round {
        bytes32 mix;
        uint64 target;
        uint32 committed;
        uint32 revealed;
        bool closed;
    }

    address private constant ASHES = address(0xdEaD);

    uint64 public immutable genesis;
    uint64 public immutable roundLength;
    uint128 public immutable stake;

    mapping(uint64 round => Round) public rounds;
    mapping(uint64 round => mapping(address participant => bytes32)) public commitments;
    /// @notice A settled round's seed; zero before.
    mapping(uint64 round => bytes32) public seed;

    event Committed(uint64 indexed round, address indexed participant);
    event Revealed(uint64 indexed round, address indexed participant, bytes32 value);
    event Closed(uint64 indexed round, uint64 target, uint256 burned);
    event SeedSettled(uint64 indexed round, bytes32 seed);

    error BadTerms();
    error NotNow(uint64 round);
    error AlreadyCommitted(address participant);
    error ZeroCommitment();
    error WrongReveal();
    error NotClosed(uint64 round);
    error TooEarly(uint64 target);
    error AlreadySettled(uint64 round);

    constructor(IERC20 token_, uint64 genesis_, uint64 roundLength_, uint128 stake_) Till(token_) {
        if (roundLength_ < 2 || genesis_ > block.timestamp) revert BadTerms();
        genesis = genesis_;
        roundLength = roundLength_;
        stake = stake_;
    }

    function startOf(uint64 round) public view returns (uint64) {
        return genesis + round * roundLength;
    }

    function roundAt(uint64 timestamp) public view returns (uint64) {
        return timestamp < genesis ? 0 : (timestamp - genesis) / roundLength;
    }

    /// @notice In the first half of a round. `hash` = keccak256(abi.encode(sender, round, value, salt)).
    function commit(uint64 round, bytes32 hash) external nonReentrant {
        if (block.timestamp < startOf(round) || block.timestamp >= _revealFrom(round)) revert NotNow(round);
        if (hash == 0) revert ZeroCommitment();
        if (commitments[round][msg.sender] != 0) revert AlreadyCommitted(msg.sender);
        commitments[round][msg.sender] = hash;
        ++rounds[round].committed;
        emit Committed(round, msg.sender);
        if (stake != 0) _takeIn(stake);
    }

    /// @notice In the second half. Gives the stake back.
    function reveal(uint64 round, bytes32 value, bytes32 salt) external nonReentrant {
        if (block.timestamp < _revealFrom(round) || block.timestamp >= startOf(round + 1)) revert NotNow(round);
        bytes32 hash = keccak256(abi.encode(msg.sender, round, value, salt));
        if (commitments[round][msg.sender] != hash) revert WrongReveal();
        delete commitments[round][msg.sender];
        Round storage state = rounds[round];
        state.mix ^= keccak256(abi.encode(msg.sender, value));
        ++state.revealed;
        emit Revealed(round, msg.sender, value);
        if (stake != 0) token.safeTransfer(msg.sender, stake);
    }

    /// @notice After a round: names the block whose hash is mixed in, and burns the stakes of those who did not reveal.
    function close(uint64 round) external nonReentrant {
        Round storage state = rounds[round];
        if (state.closed || block.timestamp < startOf(round + 1)) revert NotNow(round);
        state.closed = true;
        state.target = uint64(block.number) + 1;
        uint256 burned = uint256(state.committed - state.revealed) * stake;
        emit Closed(round, state.target, burned);
        if (burned != 0) token.safeTransfer(ASHES, burned);
    }

    /// @notice Makes the seed. A block more than 256 behind is forgotten by the chain: then another one is named.
    function settle(uint64 round) external {
        Round storage state = rounds[round];
        if (!state.closed) revert NotClosed(round);
        if (seed[round] != 0) revert AlreadySettled(round);
        if (block.number <= state.target) revert TooEarly(state.target);
        bytes32 entropy = blockhash(state.target);
        if (entropy == 0) {
            state.target = uint64(block.number) + 1;
            emit Closed(round, state.target, 0);
            return;
        }
        seed[round] = keccak256(abi.encode(round, state.mix, entropy));
        emit SeedSettled(round, seed[round]);
    }

    function _revealFrom(uint64 round) private view returns (uint64) {
        return startOf(round) + roundLength / 2;
    }
}
