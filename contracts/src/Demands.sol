// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Challenge} from "./Challenge.sol";
import {Commitment} from "./Commitment.sol";
import {Leaves, ReceiptOpening} from "./Leaves.sol";
import {MerkleSum} from "./MerkleSum.sol";
import {Settlement} from "./Settlement.sol";
import {Till} from "./Till.sol";

/// @title Data that a lane committed to and does not publish: show the leaf, or lose the commitment.
/// @notice Anyone may demand a leaf of an open commitment, with a stake. Whoever shows it within the answer time gets the
/// stake; after that the commitment dies, and the stake goes back. The commitment does not become final meanwhile, nor
/// before there was time to prove wrong what the answer showed.
contract Demands is Challenge, Till {
    using SafeERC20 for IERC20;

    struct Demand {
        address demander;
        uint64 deadline;
        address poster;
        bytes32 commitment;
    }

    uint8 public constant RECEIPTS = 0;
    uint8 public constant LINES = 1;
    uint8 public constant EARNINGS = 2;
    uint8 public constant CREDITS_BY_ACCOUNT = 3;
    uint8 public constant CREDITS_BY_POOL = 4;

    /// @notice What a demand costs whoever makes it in vain. Above what an answer costs in gas.
    uint128 public immutable stake;
    mapping(bytes32 id => Demand) public demands;

    event Demanded(
        bytes32 indexed id, address indexed lane, uint64 indexed epoch, uint8 tree, uint32 index, uint64 deadline
    );
    event Answered(bytes32 indexed id, address indexed by, bytes leaf);
    event ReceiptAnswered(bytes32 indexed id, address indexed by, ReceiptOpening opening);
    event DemandExpired(bytes32 indexed id);

    error AlreadyDemanded(bytes32 id);
    error UnknownDemand(bytes32 id);
    error NoSuchLeaf(uint32 index, uint32 count);
    error WindowPassed(uint64 since);
    error WrongLeaf();
    error StillAnswerable(uint64 until);
    error TooLate(uint64 deadline);

    constructor(Settlement settlement_, IERC20 token_, uint128 stake_) Challenge(settlement_) Till(token_) {
        stake = stake_;
    }

    function demandId(bytes32 commitment, address lane, uint8 tree, uint32 index) public pure returns (bytes32) {
        return keccak256(abi.encode(commitment, lane, tree, index));
    }

    /// @notice Demands a leaf. In the first window only, so that demands do not follow one another for ever.
    function demand(address lane, Commitment calldata commitment, uint8 tree, uint32 index)
        external
        nonReentrant
        returns (bytes32 id)
    {
        bytes32 hash = settlement.commitmentHash(commitment);
        id = demandId(hash, lane, tree, index);
        if (demands[id].demander != address(0)) revert AlreadyDemanded(id);
        (, uint64 postedAt,,,) = settlement.posted(lane, commitment.epoch);
        uint64 last = postedAt + settlement.window();
        if (block.timestamp >= last) revert WindowPassed(last);
        uint32 count = _countOf(commitment, tree);
        if (index >= count) revert NoSuchLeaf(index, count);
        uint64 answerTime = settlement.answerTime();
        uint64 deadline = uint64(block.timestamp) + answerTime;
        address poster = settlement.hold(lane, commitment, deadline + answerTime);
        demands[id] = Demand(msg.sender, deadline, poster, hash);
        emit Demanded(id, lane, commitment.epoch, tree, index, deadline);
        if (stake != 0) _takeIn(stake);
    }

    /// @notice Shows a receipt, whole: its hashes alone would say nothing about it.
    function answerReceipt(address lane, Commitment calldata commitment, ReceiptOpening calldata opening)
        external
        nonReentrant
    {
        bytes32 id = _openDemand(lane, commitment, RECEIPTS, opening.index);
        Leaves.requireOpening(commitment, opening, _escrow());
        emit ReceiptAnswered(id, msg.sender, opening);
        _end(id, msg.sender);
    }

    /// @notice Shows any other leaf, by its packed fields (without the prefix); the last 16 bytes are its amount.
    /// @param previous the commitment before, whose receipts the credits are of
    function answer(
        address lane,
        Commitment calldata previous,
        Commitment calldata commitment,
        uint8 tree,
        uint32 index,
        bytes calldata leaf,
        MerkleSum.Step[] calldata path
    ) external nonReentrant {
        bytes32 id = _openDemand(lane, commitment, tree, index);
        if (leaf.length != _lengthOf(tree)) revert WrongLeaf();
        (bytes32 root, uint128 total) = (commitment.lineRoot, commitment.receiptSum);
        if (tree == EARNINGS) (root, total) = (commitment.earningsRoot, commitment.cumulativeTotal);
        if (tree >= CREDITS_BY_ACCOUNT) {
            _requirePrevious(lane, previous, commitment);
            root = tree == CREDITS_BY_POOL ? commitment.poolCreditRoot : commitment.accountCreditRoot;
            total = previous.receiptSum;
        }
        uint128 amount = uint128(bytes16(leaf[leaf.length - 16:]));
        bytes32 hash = keccak256(bytes.concat(bytes1(0x00), leaf));
        Leaves.requireLeaf(root, total, _countOf(commitment, tree), hash, amount, index, path);
        emit Answered(id, msg.sender, leaf);
        _end(id, msg.sender);
    }

    /// @notice Kills a commitment whose leaf nobody showed in time.
    function expire(address lane, Commitment calldata commitment, uint8 tree, uint32 index) external nonReentrant {
        bytes32 id = demandId(settlement.commitmentHash(commitment), lane, tree, index);
        Demand memory pending = demands[id];
        if (pending.demander == address(0)) revert UnknownDemand(id);
        if (block.timestamp < pending.deadline) revert StillAnswerable(pending.deadline);
        // It may be dead for another reason, or final because nobody did this in time.
        bool stands = _stands(lane, commitment);
        emit DemandExpired(id);
        _end(id, pending.demander);
        if (stands) settlement.kill(lane, commitment, pending.demander, "data withheld");
    }

    function _stands(address lane, Commitment calldata commitment) private view returns (bool) {
        try settlement.requireOpen(lane, commitment) {
            return true;
        } catch {
            return false;
        }
    }

    function _openDemand(address lane, Commitment calldata commitment, uint8 tree, uint32 index)
        private
        view
        returns (bytes32 id)
    {
        id = demandId(settlement.commitmentHash(commitment), lane, tree, index);
        Demand storage pending = demands[id];
        if (pending.demander == address(0)) revert UnknownDemand(id);
        if (block.timestamp >= pending.deadline) revert TooLate(pending.deadline);
    }

    function _end(bytes32 id, address winner) private {
        address poster = demands[id].poster;
        delete demands[id];
        settlement.letGo(poster);
        if (stake != 0) token.safeTransfer(winner, stake);
    }

    function _countOf(Commitment calldata commitment, uint8 tree) private pure returns (uint32) {
        if (tree == RECEIPTS) return commitment.receiptCount;
        if (tree == LINES) return commitment.lineCount;
        if (tree == EARNINGS) return commitment.accountCount;
        return tree <= CREDITS_BY_POOL ? commitment.creditCount : 0;
    }

    function _lengthOf(uint8 tree) private pure returns (uint256) {
        if (tree == LINES) return 180;
        if (tree == EARNINGS) return 36;
        return tree == CREDITS_BY_ACCOUNT || tree == CREDITS_BY_POOL ? 69 : 0;
    }
}
