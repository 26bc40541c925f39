// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {Escrow, IPots} from "./Escrow.sol";
import {MerkleSum} from "./MerkleSum.sol";
import {Registry} from "./Registry.sol";

/// @title Lanes' pots, their epochs' commitments, and the claims of those who earned.
/// @notice Money redeemed for a lane lies in that lane's pot. After epoch n the lane commits to two Merkle-sum trees:
/// the receipts of n, whose sum is exactly what the pot grew by, and the cumulative earnings through the commitment
/// before, whose sum is exactly what was committed by then. After a window, accounts claim with proofs.
/// @dev What needs no dispute is enforced at posting: receiptSum and cumulativeTotal are equalities, so no set of
/// provable leaves exceeds the pot and a dishonest poster can only misdistribute its own lane. What one transaction
/// can prove wrong (order, signatures, a dropped or decreased account) is what the window is for; every field a
/// proof needs is in the commitment, and `follows` links each to the one before.
contract Settlement is IPots, ReentrancyGuard {
    using SafeERC20 for IERC20;

    /// @notice Chain time is cut into epochs: n runs from genesis + n·epochLength. All in seconds.
    struct Terms {
        uint64 genesis;
        uint64 epochLength;
        uint64 grace;
        uint64 window;
    }

    /// @notice What a lane says about an epoch. Its hash is keccak256(abi.encode(commitment)).
    /// @dev receiptRoot: leaves sorted by receipt id, strictly increasing; each receipt's epoch is at most `epoch` and
    /// no earlier commitment holds it. earningsRoot: leaves sorted by account. dataHash: where both trees are published.
    struct Commitment {
        uint64 epoch;
        bytes32 receiptRoot;
        bytes32 earningsRoot;
        uint128 receiptSum;
        uint128 cumulativeTotal;
        uint32 receiptCount;
        uint32 accountCount;
        bytes32 dataHash;
    }

    /// @notice `committed` is what of `pot` has been committed to receipts. `nextEpoch` is one more than the last epoch
    /// posted, `latestEpoch` the latest epoch of any voucher redeemed.
    struct Lane {
        uint128 pot;
        uint128 committed;
        uint128 claimed;
        uint64 nextEpoch;
        uint64 latestEpoch;
    }

    /// @notice A commitment as stored. `follows` is the lane's nextEpoch before it: 0, or the epoch before plus one.
    struct Posted {
        bytes32 hash;
        uint64 postedAt;
        uint64 follows;
    }

    /// @notice An account's cumulative earnings in a lane with the path of their leaf.
    struct Claim {
        address account;
        uint128 cumulative;
        uint32 index;
        MerkleSum.Step[] path;
    }

    IERC20 public immutable token;
    Escrow public immutable escrow;
    Registry public immutable registry;
    /// @notice The account of the platform's share of every price.
    address public immutable platform;
    /// @notice The account of the work pool's share, which pays auditors and attributors.
    address public immutable workPool;
    uint64 public immutable genesis;
    uint64 public immutable epochLength;
    /// @notice Seconds after an epoch's end before it can be posted: its last requests come to their deadlines.
    uint64 public immutable grace;
    /// @notice Seconds after posting before claims: the time to prove a commitment wrong.
    uint64 public immutable window;

    mapping(address lane => Lane) public lanes;
    mapping(address lane => mapping(uint64 epoch => Posted)) public posted;
    mapping(address lane => mapping(address account => uint128)) public claimed;

    event Credited(address indexed lane, uint64 epoch, uint128 amount, uint128 pot);
    event EpochPosted(
        address indexed lane, uint64 indexed epoch, bytes32 hash, uint64 postedAt, Commitment commitment
    );
    event Claimed(address indexed lane, address indexed account, address paidTo, uint128 amount, uint128 cumulative);

    error ZeroAddress();
    error BadTerms();
    error Miswired();
    error NotEscrow(address caller);
    error NotLane(address lane, address caller);
    error NotLater(uint64 epoch, uint64 nextEpoch);
    error EpochOpen(uint64 epoch, uint64 current);
    error PotHoldsLaterEpoch(uint64 epoch, uint64 latestEpoch);
    error ReceiptSumMismatch(uint128 given, uint128 potIncrease);
    error CumulativeMismatch(uint128 given, uint128 committed);
    error InconsistentCommitment();
    error UnknownCommitment(address lane, uint64 epoch);
    error WindowOpen(uint64 until);
    error ClaimExceedsPot(address lane, uint128 claimed, uint128 committed);

    constructor(Escrow escrow_, Registry registry_, Terms memory terms, address platform_, address workPool_) {
        if (platform_ == address(0) || workPool_ == address(0)) revert ZeroAddress();
        if (terms.epochLength == 0 || terms.genesis > block.timestamp) revert BadTerms();
        // A client's notice must outlast the longest wait between a voucher and the claim of what it paid for.
        if (escrow_.thawPeriod() <= terms.epochLength + terms.grace + terms.window) revert BadTerms();
        // The escrow names its settlement before this exists: a wrong prediction must not live.
        if (address(escrow_.settlement()) != address(this) || address(registry_.escrow()) != address(escrow_)) {
            revert Miswired();
        }
        escrow = escrow_;
        registry = registry_;
        token = escrow_.token();
        platform = platform_;
        workPool = workPool_;
        genesis = terms.genesis;
        epochLength = terms.epochLength;
        grace = terms.grace;
        window = terms.window;
    }

    // ---- pots ---------------------------------------------------------------------------------------------------

    /// @inheritdoc IPots
    /// @dev The escrow has sent the tokens and seen them arrive.
    function credit(address lane, uint64 epoch, uint128 amount) external {
        if (msg.sender != address(escrow)) revert NotEscrow(msg.sender);
        Lane storage state = lanes[lane];
        state.pot += amount;
        if (epoch > state.latestEpoch) state.latestEpoch = epoch;
        emit Credited(lane, epoch, amount, state.pot);
    }

    /// @inheritdoc IPots
    function currentEpoch() external view returns (uint64) {
        return epochAt(uint64(block.timestamp));
    }

    function epochAt(uint64 timestamp) public view returns (uint64) {
        return timestamp < genesis ? 0 : (timestamp - genesis) / epochLength;
    }

    /// @notice When `epoch` can be posted, in Unix seconds.
    function postableAt(uint64 epoch) public view returns (uint64) {
        return genesis + (epoch + 1) * epochLength + grace;
    }

    // ---- commitments --------------------------------------------------------------------------------------------

    /// @notice Commits a lane to its receipts of one epoch and to all earnings before. By the lane or its owner.
    /// @dev Epochs may be skipped, never repeated. Cost does not depend on how many receipts there are: the struct
    /// stays in the event and comes back in calldata, only its hash is stored.
    function postEpoch(address lane, Commitment calldata commitment) external {
        if (!escrow.speaksFor(lane, msg.sender)) revert NotLane(lane, msg.sender);
        Lane storage state = lanes[lane];
        uint64 epoch = commitment.epoch;
        if (epoch < state.nextEpoch) revert NotLater(epoch, state.nextEpoch);
        uint64 current = epochAt(uint64(block.timestamp));
        if (epoch >= current || block.timestamp < postableAt(epoch)) revert EpochOpen(epoch, current);
        // Money of a later epoch in the pot belongs to receipts that this commitment may not hold.
        if (epoch < state.latestEpoch) revert PotHoldsLaterEpoch(epoch, state.latestEpoch);
        uint128 increase = state.pot - state.committed;
        if (commitment.receiptSum != increase) revert ReceiptSumMismatch(commitment.receiptSum, increase);
        if (commitment.cumulativeTotal != state.committed) {
            revert CumulativeMismatch(commitment.cumulativeTotal, state.committed);
        }
        _requireConsistent(commitment);
        bytes32 hash = commitmentHash(commitment);
        posted[lane][epoch] = Posted(hash, uint64(block.timestamp), state.nextEpoch);
        state.committed += increase;
        state.nextEpoch = epoch + 1;
        emit EpochPosted(lane, epoch, hash, uint64(block.timestamp), commitment);
    }

    function commitmentHash(Commitment calldata commitment) public pure returns (bytes32) {
        return keccak256(abi.encode(commitment));
    }

    // ---- claims -------------------------------------------------------------------------------------------------

    /// @notice Pays accounts what they have earned in a lane beyond what they were paid. Anyone may submit anyone's
    /// claim; the money goes to the account's current payee. Claims that are already paid are passed over, so that
    /// nobody can spoil a batch by submitting a part of it first.
    /// @return paid token units paid by this call
    function claimMany(address lane, Commitment calldata commitment, Claim[] calldata claims)
        external
        nonReentrant
        returns (uint128 paid)
    {
        _requireFinal(lane, commitment);
        uint128[] memory amounts = new uint128[](claims.length);
        for (uint256 i; i < claims.length; ++i) {
            Claim calldata claim = claims[i];
            _requireEarned(commitment, claim);
            uint128 done = claimed[lane][claim.account];
            if (claim.cumulative <= done) continue;
            claimed[lane][claim.account] = claim.cumulative;
            amounts[i] = claim.cumulative - done;
            paid += amounts[i];
        }
        Lane storage state = lanes[lane];
        state.claimed += paid;
        // One root cannot exceed the pot (its sum was checked at posting); several roots that disagree could.
        if (state.claimed > state.committed) revert ClaimExceedsPot(lane, state.claimed, state.committed);
        for (uint256 i; i < claims.length; ++i) {
            if (amounts[i] > 0) _pay(lane, claims[i], amounts[i]);
        }
    }

    function _pay(address lane, Claim calldata claim, uint128 amount) private {
        address payee = registry.currentPayee(claim.account);
        emit Claimed(lane, claim.account, payee, amount, claim.cumulative);
        token.safeTransfer(payee, amount);
    }

    /// @notice Leaf of an account in an earnings tree; its amount is `cumulative`.
    function earningsLeaf(address account, uint128 cumulative) public pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0x00), account, cumulative));
    }

    /// @notice Leaf of a receipt in a receipt tree; its amount is the receipt's price.
    /// @dev The voucher's signature is in it by hash, so that the tree commits to the very voucher that was redeemable.
    function receiptLeaf(bytes32 receiptId, bytes32 receiptDigest, bytes32 voucherDigest, bytes32 signatureHash)
        public
        pure
        returns (bytes32)
    {
        return keccak256(abi.encodePacked(bytes1(0x00), receiptId, receiptDigest, voucherDigest, signatureHash));
    }

    /// @notice The root and total a leaf leads to, for anyone who wants to check a proof before sending it.
    function climb(bytes32 leaf, uint128 amount, uint32 index, uint32 count, MerkleSum.Step[] calldata path)
        external
        pure
        returns (bytes32, uint128)
    {
        return MerkleSum.climb(leaf, amount, index, count, path);
    }

    // ---- checks -------------------------------------------------------------------------------------------------

    /// @dev An empty tree is written as root 0, count 0, sum 0, and only so.
    function _requireConsistent(Commitment calldata commitment) private pure {
        bool noReceipts = commitment.receiptCount == 0;
        bool noAccounts = commitment.accountCount == 0;
        if (
            noReceipts != (commitment.receiptRoot == 0) || noReceipts != (commitment.receiptSum == 0)
                || noAccounts != (commitment.earningsRoot == 0) || noAccounts != (commitment.cumulativeTotal == 0)
        ) revert InconsistentCommitment();
    }

    function _requireFinal(address lane, Commitment calldata commitment) private view {
        Posted storage entry = posted[lane][commitment.epoch];
        if (entry.postedAt == 0 || entry.hash != commitmentHash(commitment)) {
            revert UnknownCommitment(lane, commitment.epoch);
        }
        if (block.timestamp < entry.postedAt + window) revert WindowOpen(entry.postedAt + window);
    }

    function _requireEarned(Commitment calldata commitment, Claim calldata claim) private pure {
        (bytes32 root, uint128 total) = MerkleSum.climb(
            earningsLeaf(claim.account, claim.cumulative),
            claim.cumulative,
            claim.index,
            commitment.accountCount,
            claim.path
        );
        if (root != commitment.earningsRoot || total != commitment.cumulativeTotal) revert MerkleSum.BadProof();
    }
}
