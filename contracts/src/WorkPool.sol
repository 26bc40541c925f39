// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {Arbiter, Attestation} from "./Arbiter.sol";
import {Commitment} from "./Commitment.sol";
import {Leaves, ReceiptLeaf} from "./Leaves.sol";
import {Settlement} from "./Settlement.sol";

/// @title The work pool's share of every price, for those who check.
/// @notice Whoever is drawn for a committed receipt, as an auditor or an attributor, hands in an attestation; the first two in
/// a role are paid in proportion to the receipt's price once it is clear that they were not found wrong. Where two
/// disagree, both wait for the arbiter.
/// @dev The money comes in by claims of this account, from any lane. Nobody else takes it out. The fee is a multiple of the
/// price, so that paying oneself for made-up answers to be drawn for them costs more than it brings where
/// feeBps · oddsPpm/1e6 · 2 stays below the pool's share of a price.
contract WorkPool is ReentrancyGuard {
    using SafeERC20 for IERC20;

    struct Work {
        address attester;
        uint64 attestedAt;
        bytes32 verdict;
        uint128 fee;
        bool paid;
    }

    uint256 private constant WHOLE = 10_000;
    uint256 public constant PLACES = 2;

    Settlement public immutable settlement;
    Arbiter public immutable arbiter;
    /// @notice What an attestation is paid, in basis points of the receipt's price; it may be more than 10,000.
    uint32 public immutable feeBps;
    /// @notice Seconds in which a contradiction may come.
    uint64 public immutable contestTime;
    mapping(bytes32 subject => mapping(uint8 role => Work[])) private _works;

    event Attested(
        bytes32 indexed subject, uint8 indexed role, address indexed attester, bytes32 verdict, uint128 fee,
        uint64 round, bytes signature
    );
    event Paid(bytes32 indexed subject, uint8 indexed role, address indexed attester, uint256 amount);

    error NotAttester(address caller);
    error NotDrawn(address attester);
    error WrongSubject(bytes32 subject);
    error WrongRound(uint64 round, uint64 wanted);
    error UnknownCommitment(address lane, uint64 epoch);
    error CommitmentNotFinal(address lane, uint64 epoch);
    error PoolTooPoor(uint256 held, uint128 fee);
    error NoPlace(bytes32 subject, uint8 role);
    error NotDue(uint64 from);
    error NotGood(address attester);
    error AlreadyPaid(address attester);

    constructor(Settlement settlement_, Arbiter arbiter_, uint32 feeBps_, uint64 contestTime_) {
        settlement = settlement_;
        arbiter = arbiter_;
        feeBps = feeBps_;
        contestTime = contestTime_;
    }

    /// @notice Hands in the caller's attestation on a receipt of a final commitment: made-up ones are taken back before.
    /// @param signature goes into the event, so that anyone can bring whom the caller contradicts before the arbiter, and the
    /// caller too
    /// @dev The round is the one that began after the receipt was committed: nobody knew then who would be drawn. A bond that
    /// leaves answers for nothing new: it could be gone before anybody contradicts.
    function attest(
        address lane,
        Commitment calldata commitment,
        ReceiptLeaf calldata leaf,
        Attestation calldata attestation,
        bytes calldata signature
    ) external {
        if (msg.sender != attestation.attester) revert NotAttester(msg.sender);
        arbiter.requireSigned(attestation, signature);
        (bytes32 subject, uint8 role) = (attestation.subject, attestation.role);
        if (subject != leaf.receiptDigest) revert WrongSubject(subject);
        Leaves.requireReceipt(commitment, leaf);
        (bytes32 hash, uint64 postedAt,,,) = settlement.posted(lane, commitment.epoch);
        if (hash != settlement.commitmentHash(commitment)) revert UnknownCommitment(lane, commitment.epoch);
        if (!settlement.isFinal(lane, commitment.epoch)) revert CommitmentNotFinal(lane, commitment.epoch);
        uint64 round = arbiter.beacon().roundAt(postedAt) + 1;
        if (attestation.round != round) revert WrongRound(attestation.round, round);
        if (!arbiter.isDrawn(msg.sender, role, subject, round) || !_isBacked(role)) revert NotDrawn(msg.sender);
        Work[] storage works = _works[subject][role];
        if (works.length == PLACES || (works.length == 1 && works[0].attester == msg.sender)) {
            revert NoPlace(subject, role);
        }
        uint128 fee = SafeCast.toUint128(uint256(leaf.price) * feeBps / WHOLE);
        works.push(Work(msg.sender, uint64(block.timestamp), attestation.verdict, fee, false));
        emit Attested(subject, role, msg.sender, attestation.verdict, fee, round, signature);
    }

    function _isBacked(uint8 role) private view returns (bool) {
        uint128 standing = arbiter.bonds().standing(msg.sender, role);
        return standing != 0 && standing >= arbiter.minimumBond();
    }

    /// @notice Pays an attestation. Anyone may submit it; only the attester settles for less, where the pool has no more.
    function collect(bytes32 subject, uint8 role, uint256 place) external nonReentrant {
        Work[] storage works = _works[subject][role];
        Work storage work = works[place];
        address attester = work.attester;
        if (work.paid) revert AlreadyPaid(attester);
        uint64 from = works[works.length - 1].attestedAt + contestTime;
        if (block.timestamp < from) revert NotDue(from);
        bool contradicted = works.length == PLACES && works[0].verdict != works[1].verdict;
        if (!arbiter.isGood(subject, role, attester) || (contradicted && arbiter.caseOf(subject, role) == 0)) {
            revert NotGood(attester);
        }
        IERC20 token = settlement.token();
        uint256 held = token.balanceOf(address(this));
        if (held < work.fee && msg.sender != attester) revert PoolTooPoor(held, work.fee);
        uint256 amount = work.fee < held ? work.fee : held;
        work.paid = true;
        emit Paid(subject, role, attester, amount);
        if (amount != 0) token.safeTransfer(attester, amount);
    }

    function worksOf(bytes32 subject, uint8 role) external view returns (Work[] memory) {
        return _works[subject][role];
    }
}
