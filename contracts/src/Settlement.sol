// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";
import {Bonds} from "./Bonds.sol";
import {Commitment, hashCommitment} from "./Commitment.sol";
import {Escrow, IPots} from "./Escrow.sol";
import {Leaves} from "./Leaves.sol";
import {MerkleSum} from "./MerkleSum.sol";
import {Pauses} from "./Pauses.sol";
import {Registry} from "./Registry.sol";

/// @title Lanes' pots, their epochs' commitments, and the claims of those who earned.
/// @notice Money redeemed for a lane lies in that lane's pot. After epoch n the lane commits to the receipts of n, whose
/// sum is exactly what the pot grew by, and to the cumulative earnings through the commitment before, whose sum is exactly
/// what was committed by then. After a window, accounts claim with proofs.
/// @dev What needs no dispute is enforced at posting: receiptSum and cumulativeTotal are equalities, so no set of provable
/// leaves exceeds the pot and a dishonest poster can only misdistribute its own lane. What one transaction can prove wrong
/// is what the window and the proof contracts are for: they alone may kill a commitment, and with it the poster's bond.
contract Settlement is IPots, Pauses, ReentrancyGuard {
    using SafeERC20 for IERC20;

    /// @notice Chosen at deployment, for good; seconds and token units. Chain time is cut into epochs: n runs from
    /// genesis + n·epochLength. potPerBond 0 limits no pot.
    struct Terms {
        uint64 genesis;
        uint64 epochLength;
        uint64 grace;
        uint64 window;
        uint64 answerTime;
        uint64 patience;
        uint64 residueTime;
        uint64 potPerBond;
        uint128 minimumBond;
    }

    struct Parts {
        Escrow escrow;
        Registry registry;
        Bonds bonds;
        address guardian;
        address platform;
        address workPool;
    }

    /// @notice `committed` is what of `pot` has been committed to receipts, `settled` what of it by final commitments.
    /// `nextEpoch` is one more than the last epoch posted, `latestEpoch` the latest of any voucher redeemed, `owedSince` when
    /// the lane began to owe a commitment (0: it owes none). Commitments from epoch `heldFrom` on are final not before
    /// `heldUntil`. `poster` posts for the lane; its bond stands behind the pot and behind every commitment that is not final.
    /// `succeeded`: it is not of the lane's choice, but took over when the lane owed too long.
    struct Lane {
        uint128 pot;
        uint128 committed;
        uint128 claimed;
        uint128 settled;
        uint64 nextEpoch;
        uint64 latestEpoch;
        uint64 owedSince;
        uint64 heldUntil;
        address poster;
        uint64 heldFrom;
        bool closed;
        bool succeeded;
        bool pledged;
    }

    /// @dev `follows` is the lane's nextEpoch before it: 0, or the epoch of the commitment before plus one. Epochs that have
    /// ended fit 32 bits as their seconds do, until 2106. One slot.
    struct Entry {
        bytes23 hash;
        uint32 postedAt;
        uint32 follows;
        bool succeeded;
    }

    /// @notice An account's cumulative earnings in a lane with the path of their leaf.
    struct Claim {
        address account;
        uint128 cumulative;
        uint32 index;
        MerkleSum.Step[] path;
    }

    /// @dev Bonds' number for the role.
    uint8 private constant POSTER = 1;

    IERC20 public immutable token;
    Escrow public immutable escrow;
    Registry public immutable registry;
    Bonds public immutable bonds;
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
    /// @notice Seconds in which a demand for data must be answered.
    uint64 public immutable answerTime;
    /// @notice Seconds for which a lane may owe a commitment before a successor may post it.
    uint64 public immutable patience;
    /// @notice Seconds after that until the residue follows the last final earnings.
    uint64 public immutable residueTime;
    /// @notice How many times a poster's bond the unsettled pots of its lanes may be. 0: no limit.
    uint64 public immutable potPerBond;
    /// @notice The least bond of a poster.
    uint128 public immutable minimumBond;

    mapping(address caller => bool) public isChallenger;
    mapping(address lane => Lane) private _lanes;
    mapping(address lane => mapping(uint64 epoch => Entry)) private _posted;
    mapping(address lane => mapping(address account => uint128)) public claimed;
    /// @notice What of the pots that a poster's bond stands behind is not settled. Kept where potPerBond is not 0.
    mapping(address poster => uint256) public exposure;
    /// @notice Who was asked to post for a lane and has not accepted yet.
    mapping(address lane => address) public proposedPoster;
    /// @notice What of a closed lane's pot no commitment gave to anybody.
    mapping(address lane => uint128) public residue;
    mapping(address lane => mapping(address account => bool)) public residueClaimed;

    event Credited(address indexed lane, uint64 epoch, uint128 amount, uint128 pot);
    event EpochPosted(address indexed lane, uint64 postedAt, Commitment commitment);
    event Claimed(address indexed lane, address indexed account, address paidTo, uint128 amount, uint128 cumulative);
    event PosterProposed(address indexed lane, address indexed poster);
    event PosterAppointed(address indexed lane, address indexed poster);
    event SuccessorIdle(address indexed lane, address indexed poster, uint128 slashed);
    event Finalised(address indexed lane, uint64 indexed epoch, uint128 settled);
    event EpochKilled(
        address indexed lane, uint64 indexed epoch, address indexed challenger, bytes32 reason, uint128 slashed
    );
    event Held(address indexed lane, uint64 indexed epoch, uint64 until);
    event LaneClosed(address indexed lane, uint128 residue);
    event ResidueClaimed(address indexed lane, address indexed account, address paidTo, uint128 amount);

    error ZeroAddress();
    error BadTerms();
    error Miswired();
    error IsPaused();
    error NotEscrow(address caller);
    error NotLane(address lane, address caller);
    error NotChallenger(address caller);
    error NotProposed(address lane, address caller);
    error LaneIsClosed(address lane);
    error LaneIsOpen(address lane);
    error BondTooSmall(address poster, uint128 standing, uint128 minimum);
    error PotExceedsBond(address poster, uint256 exposure, uint256 limit);
    error NotLater(uint64 epoch, uint64 nextEpoch);
    error EpochOpen(uint64 epoch, uint64 current);
    error PotHoldsLaterEpoch(uint64 epoch, uint64 latestEpoch);
    error ReceiptSumMismatch(uint128 given, uint128 potIncrease);
    error CumulativeMismatch(uint128 given, uint128 committed);
    error InconsistentCommitment();
    error UnknownCommitment(address lane, uint64 epoch);
    error WindowOpen(uint64 until);
    error WindowClosed(uint64 since);
    error NotLatest(uint64 epoch, uint64 nextEpoch);
    error ResidueNotDue(uint64 from);
    error NotSuccessor(address lane, address caller);
    error CommitmentNotFinal(address lane, uint64 epoch);
    error SuccessorAtWork(address lane, address poster);
    error ClaimExceedsPot(address lane, uint128 claimed, uint128 committed);

    constructor(Parts memory parts, Terms memory terms, address[] memory challengers) Pauses(parts.guardian) {
        if (parts.platform == address(0) || parts.workPool == address(0)) revert ZeroAddress();
        if (terms.epochLength == 0 || terms.answerTime == 0 || terms.genesis > block.timestamp) revert BadTerms();
        // A client's notice must outlast the longest wait between a voucher and the claim of what it paid for, a poster's the
        // longest dispute about what it posted.
        uint64 dispute = terms.window + 2 * terms.answerTime;
        uint64 longest = terms.epochLength + terms.grace + dispute;
        // When a successor takes over, nothing that the poster before has posted is open any more.
        if (terms.patience < dispute) revert BadTerms();
        if (parts.escrow.thawPeriod() <= longest || parts.bonds.thawPeriod() <= longest) revert BadTerms();
        // The escrow names its settlement before this exists: a wrong prediction must not live.
        if (
            address(parts.escrow.settlement()) != address(this)
                || address(parts.registry.escrow()) != address(parts.escrow) || !parts.bonds.isSlasher(address(this))
        ) revert Miswired();
        for (uint256 i; i < challengers.length; ++i) isChallenger[challengers[i]] = true;
        escrow = parts.escrow;
        registry = parts.registry;
        bonds = parts.bonds;
        token = parts.escrow.token();
        platform = parts.platform;
        workPool = parts.workPool;
        genesis = terms.genesis;
        epochLength = terms.epochLength;
        grace = terms.grace;
        window = terms.window;
        answerTime = terms.answerTime;
        patience = terms.patience;
        residueTime = terms.residueTime;
        potPerBond = terms.potPerBond;
        minimumBond = terms.minimumBond;
    }

    modifier onlyChallenger() {
        if (!isChallenger[msg.sender]) revert NotChallenger(msg.sender);
        _;
    }

    // ---- pots -------------------------------------------------------------------------------------------------------

    /// @inheritdoc IPots
    /// @dev The escrow has sent the tokens and seen them arrive.
    function credit(address lane, uint64 epoch, uint128 amount) external {
        if (msg.sender != address(escrow)) revert NotEscrow(msg.sender);
        Lane storage state = _lanes[lane];
        if (state.closed) revert LaneIsClosed(lane);
        if (state.poster == address(0)) state.poster = _ownPoster(lane);
        state.pot += amount;
        if (epoch > state.latestEpoch) state.latestEpoch = epoch;
        if (state.owedSince == 0) state.owedSince = uint64(block.timestamp);
        if (potPerBond != 0) _expose(state.poster, amount);
        emit Credited(lane, epoch, amount, state.pot);
    }

    function _ownPoster(address lane) private view returns (address) {
        address owner = escrow.ownerOf(lane);
        return owner == address(0) ? lane : owner;
    }

    function _expose(address poster, uint256 amount) private {
        uint256 exposed = exposure[poster] + amount;
        _requireBacked(poster, exposed, bonds.standing(poster, POSTER));
        exposure[poster] = exposed;
    }

    function _requireBacked(address poster, uint256 exposed, uint128 standing) private view {
        uint256 limit = uint256(potPerBond) * standing;
        if (exposed > limit) revert PotExceedsBond(poster, exposed, limit);
    }

    /// @notice Proposes who shall post for a lane, with a bond of its own behind it. By the lane or its owner, who may
    /// name themselves.
    function appoint(address lane, address poster) external {
        if (!escrow.speaksFor(lane, msg.sender)) revert NotLane(lane, msg.sender);
        if (poster == address(0)) revert ZeroAddress();
        proposedPoster[lane] = poster;
        emit PosterProposed(lane, poster);
        if (poster == msg.sender) serve(lane);
    }

    /// @notice Accepts to post for a lane: what of its pot is not settled weighs on the caller's bond from now on. Only
    /// while nothing posted is open, as one bond answers for all of it; and not before a successor has done what was owed, or
    /// has itself been idle for too long.
    function serve(address lane) public {
        if (proposedPoster[lane] != msg.sender) revert NotProposed(lane, msg.sender);
        delete proposedPoster[lane];
        Lane storage state = _lanes[lane];
        if (state.succeeded && block.timestamp < succeedableAt(lane) && state.owedSince != 0) {
            revert SuccessorAtWork(lane, state.poster);
        }
        if (state.nextEpoch != 0 && block.timestamp < finalAt(lane, state.nextEpoch - 1)) {
            revert CommitmentNotFinal(lane, state.nextEpoch - 1);
        }
        state.succeeded = false;
        _takeOver(lane, state, false);
    }

    /// @notice Takes over a lane that has owed a commitment for too long: from now on the caller redeems and posts for it, and
    /// is credited the worker's share in what it posts. Another may take over in turn if it does not post either, or the lane
    /// itself: then the least bond of whoever was idle is slashed.
    /// @dev Else two accounts could keep a lane from everybody for ever by taking turns. The bond stays until the work is done.
    function succeed(address lane) external {
        Lane storage state = _lanes[lane];
        if (!canSucceed(lane, msg.sender) || (state.pledged && state.poster == msg.sender)) {
            revert NotSuccessor(lane, msg.sender);
        }
        state.owedSince = uint64(block.timestamp);
        state.succeeded = true;
        _takeOver(lane, state, true);
        bonds.freeze(msg.sender, POSTER);
    }

    function _takeOver(address lane, Lane storage state, bool pledged) private {
        address idle = state.pledged ? state.poster : address(0);
        state.pledged = pledged;
        if (potPerBond != 0) {
            uint256 unsettled = state.pot - state.settled;
            exposure[state.poster] -= unsettled;
            _expose(msg.sender, unsettled);
        }
        state.poster = msg.sender;
        emit PosterAppointed(lane, msg.sender);
        if (idle != address(0)) _dismiss(lane, idle);
    }

    /// @dev A successor that did nothing keeps what of its bond stands for anything else.
    function _dismiss(address lane, address idle) private {
        bonds.unfreeze(idle, POSTER);
        emit SuccessorIdle(lane, idle, bonds.slash(idle, POSTER, minimumBond, msg.sender));
    }

    /// @inheritdoc IPots
    function paused() public view override(IPots, Pauses) returns (bool) {
        return Pauses.paused();
    }

    // ---- time -------------------------------------------------------------------------------------------------------

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

    /// @notice From when on a successor may act for a lane; the largest number while it owes nothing.
    function succeedableAt(address lane) public view returns (uint64) {
        Lane storage state = _lanes[lane];
        if (state.owedSince == 0 || state.closed) return type(uint64).max;
        uint64 since = state.owedSince;
        uint64 postable = postableAt(state.latestEpoch);
        uint64 resumed = pausedUntil;
        if (postable > since) since = postable;
        if (resumed > since) since = resumed;
        return since + patience;
    }

    /// @notice Whether `caller` may take over a lane now.
    function canSucceed(address lane, address caller) public view returns (bool) {
        uint128 standing = bonds.standing(caller, POSTER);
        return standing != 0 && standing >= minimumBond && block.timestamp >= succeedableAt(lane);
    }

    /// @inheritdoc IPots
    function isSuccessor(address lane, address caller) external view returns (bool) {
        Lane storage state = _lanes[lane];
        return state.succeeded && caller == state.poster;
    }

    // ---- commitments ------------------------------------------------------------------------------------------------

    /// @notice Commits a lane to its receipts of one epoch and to all earnings before. By the lane's poster, and
    /// by the lane or its owner where that is their own.
    /// @dev Epochs may be skipped, never repeated. Cost does not depend on how many receipts there are: the struct stays in
    /// the event and comes back in calldata, only its hash is stored.
    function postEpoch(address lane, Commitment calldata commitment) external {
        if (paused()) revert IsPaused();
        Lane storage state = _lanes[lane];
        if (state.closed) revert LaneIsClosed(lane);
        _requirePoster(lane, state.poster);
        (uint64 epoch, uint64 next) = (commitment.epoch, state.nextEpoch);
        if (epoch < next) revert NotLater(epoch, next);
        uint64 current = epochAt(uint64(block.timestamp));
        if (epoch >= current || block.timestamp < postableAt(epoch)) revert EpochOpen(epoch, current);
        // Money of a later epoch in the pot belongs to receipts that this commitment may not hold.
        if (epoch < state.latestEpoch) revert PotHoldsLaterEpoch(epoch, state.latestEpoch);
        (uint128 pot, uint128 committed) = (state.pot, state.committed);
        if (commitment.receiptSum != pot - committed) {
            revert ReceiptSumMismatch(commitment.receiptSum, pot - committed);
        }
        if (commitment.cumulativeTotal != committed) revert CumulativeMismatch(commitment.cumulativeTotal, committed);
        _requireConsistent(commitment);
        bytes32 hash = hashCommitment(commitment);
        _posted[lane][epoch] = Entry(bytes23(hash), uint32(block.timestamp), uint32(next), state.succeeded);
        if (pot != committed) state.committed = pot;
        state.nextEpoch = epoch + 1;
        state.owedSince = pot == committed ? 0 : uint64(block.timestamp);
        emit EpochPosted(lane, uint64(block.timestamp), commitment);
        if (!state.pledged || pot != committed) return;
        state.pledged = false;
        bonds.unfreeze(state.poster, POSTER);
    }

    /// @dev The poster's bond answers for what is posted: the lane and its owner may post on their own, not on another's.
    function _requirePoster(address lane, address poster) private {
        if (msg.sender != poster) {
            address own = _ownPoster(lane);
            bool theirs = poster == address(0) || poster == own || poster == lane;
            if (!theirs || !escrow.speaksFor(lane, msg.sender)) revert NotLane(lane, msg.sender);
            if (poster == address(0)) _lanes[lane].poster = poster = own;
        }
        if (minimumBond == 0 && potPerBond == 0) return;
        uint128 standing = bonds.standing(poster, POSTER);
        if (standing < minimumBond) revert BondTooSmall(poster, standing, minimumBond);
        // What stood behind the pot when money came may have thawed since.
        if (potPerBond != 0) _requireBacked(poster, exposure[poster], standing);
    }

    function commitmentHash(Commitment calldata commitment) external pure returns (bytes32) {
        return hashCommitment(commitment);
    }

    /// @notice When a commitment's claims open and its challenges close, as far as is known now.
    function finalAt(address lane, uint64 epoch) public view returns (uint64) {
        Entry storage entry = _posted[lane][epoch];
        if (entry.postedAt == 0) revert UnknownCommitment(lane, epoch);
        uint64 until = uint64(entry.postedAt) + window;
        Lane storage state = _lanes[lane];
        if (epoch < state.heldFrom || state.heldUntil <= until) return until;
        // Demands on it come in its first window, on earlier ones sooner. Those on later ones hold it no longer than that.
        uint64 longest = until + 2 * answerTime;
        return state.heldUntil < longest ? state.heldUntil : longest;
    }

    function isFinal(address lane, uint64 epoch) external view returns (bool) {
        return block.timestamp >= finalAt(lane, epoch);
    }

    /// @notice Marks what a final commitment has committed as settled, so that the bond behind the lane is free for more.
    function finalise(address lane, Commitment calldata commitment) external {
        _requireFinal(lane, commitment);
        _settle(lane, commitment);
    }

    function _settle(address lane, Commitment calldata commitment) private {
        Lane storage state = _lanes[lane];
        uint128 settled = commitment.cumulativeTotal + commitment.receiptSum;
        if (settled <= state.settled) return;
        if (potPerBond != 0) exposure[state.poster] -= settled - state.settled;
        state.settled = settled;
        emit Finalised(lane, commitment.epoch, settled);
    }

    // ---- challenges -------------------------------------------------------------------------------------------------

    /// @notice Takes back a commitment that was proved wrong, and all later ones of the lane, which build on it. Its poster
    /// loses the bond. The pot stays, for whoever posts anew.
    function kill(address lane, Commitment calldata commitment, address challenger, bytes32 reason)
        external
        onlyChallenger
    {
        uint64 epoch = commitment.epoch;
        requireOpen(lane, commitment);
        Lane storage state = _lanes[lane];
        uint64 next = state.nextEpoch;
        while (next > epoch) {
            uint64 follows = _posted[lane][next - 1].follows;
            delete _posted[lane][next - 1];
            next = follows;
        }
        state.nextEpoch = next;
        state.committed = commitment.cumulativeTotal;
        state.owedSince = uint64(block.timestamp);
        if (state.heldFrom >= epoch) state.heldUntil = 0;
        uint128 slashed = bonds.slash(state.poster, POSTER, type(uint128).max, challenger);
        emit EpochKilled(lane, epoch, challenger, reason, slashed);
    }

    /// @notice Keeps a commitment and later ones from becoming final before `until`, and its poster's bond from leaving.
    /// @return poster whose bond it is, to be given to `letGo`
    function hold(address lane, Commitment calldata commitment, uint64 until)
        external
        onlyChallenger
        returns (address poster)
    {
        requireOpen(lane, commitment);
        Lane storage state = _lanes[lane];
        uint64 epoch = commitment.epoch;
        if (block.timestamp >= state.heldUntil || epoch < state.heldFrom) state.heldFrom = epoch;
        if (until > state.heldUntil) state.heldUntil = until;
        poster = state.poster;
        emit Held(lane, epoch, until);
        bonds.freeze(poster, POSTER);
    }

    /// @notice Ends what `hold` did to the bond.
    function letGo(address poster) external onlyChallenger {
        bonds.unfreeze(poster, POSTER);
    }

    /// @notice Reverts unless the lane has posted this commitment and it can still be challenged.
    function requireOpen(address lane, Commitment calldata commitment) public view {
        uint64 until = _requirePosted(lane, commitment);
        if (block.timestamp >= until) revert WindowClosed(until);
    }

    // ---- claims -----------------------------------------------------------------------------------------------------

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
        _settle(lane, commitment);
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
        _countClaimed(lane, paid);
        for (uint256 i; i < claims.length; ++i) {
            if (amounts[i] > 0) _pay(lane, claims[i], amounts[i]);
        }
    }

    function _pay(address lane, Claim calldata claim, uint128 amount) private {
        address payee = registry.currentPayee(claim.account);
        emit Claimed(lane, claim.account, payee, amount, claim.cumulative);
        token.safeTransfer(payee, amount);
    }

    /// @dev One root cannot exceed the pot (its sum was checked at posting); several roots that disagree could.
    function _countClaimed(address lane, uint128 paid) private {
        Lane storage state = _lanes[lane];
        state.claimed += paid;
        if (state.claimed > state.committed) revert ClaimExceedsPot(lane, state.claimed, state.committed);
    }

    // ---- residue ----------------------------------------------------------------------------------------------------

    /// @notice Gives up a lane that owes a commitment which nobody has posted for so long: what no commitment gave to
    /// anybody follows the last final earnings, or goes to the work pool where there are none.
    /// @param last the lane's latest commitment; all zeros where it never posted
    function closeLane(address lane, Commitment calldata last) external nonReentrant {
        Lane storage state = _lanes[lane];
        uint64 from = succeedableAt(lane);
        if (from == type(uint64).max) revert ResidueNotDue(from);
        from += residueTime;
        if (block.timestamp < from) revert ResidueNotDue(from);
        if (state.nextEpoch != 0) _requireLast(lane, last);
        uint128 offered = state.nextEpoch == 0 ? 0 : last.cumulativeTotal;
        uint128 rest = state.pot - offered;
        if (potPerBond != 0) exposure[state.poster] -= state.pot - state.settled;
        (state.closed, state.committed, state.settled) = (true, state.pot, state.pot);
        emit LaneClosed(lane, rest);
        if (state.pledged) {
            state.pledged = false;
            _dismiss(lane, state.poster);
        }
        if (offered != 0) {
            residue[lane] = rest;
            return;
        }
        _countClaimed(lane, rest);
        emit ResidueClaimed(lane, workPool, workPool, rest);
        token.safeTransfer(workPool, rest);
    }

    /// @notice Pays accounts their part of a closed lane's residue, in proportion to its last earnings, rounded down.
    function claimResidue(address lane, Commitment calldata last, Claim[] calldata claims) external nonReentrant {
        if (!_lanes[lane].closed) revert LaneIsOpen(lane);
        _requireLast(lane, last);
        for (uint256 i; i < claims.length; ++i) {
            Claim calldata claim = claims[i];
            _requireEarned(last, claim);
            if (residueClaimed[lane][claim.account]) continue;
            residueClaimed[lane][claim.account] = true;
            uint256 part = uint256(residue[lane]) * claim.cumulative / last.cumulativeTotal;
            _countClaimed(lane, uint128(part));
            address payee = registry.currentPayee(claim.account);
            emit ResidueClaimed(lane, claim.account, payee, uint128(part));
            token.safeTransfer(payee, part);
        }
    }

    function _requireLast(address lane, Commitment calldata last) private view {
        uint64 next = _lanes[lane].nextEpoch;
        if (uint256(last.epoch) + 1 != next) revert NotLatest(last.epoch, next);
        _requireFinal(lane, last);
    }

    // ---- readings ---------------------------------------------------------------------------------------------------

    /// @notice What decides what a lane may post next. laneOf has the rest.
    function lanes(address lane)
        external
        view
        returns (uint128 pot, uint128 committed, uint128 paid, uint64 nextEpoch, uint64 latestEpoch)
    {
        Lane storage state = _lanes[lane];
        return (state.pot, state.committed, state.claimed, state.nextEpoch, state.latestEpoch);
    }

    function laneOf(address lane) external view returns (Lane memory) {
        return _lanes[lane];
    }

    /// @notice A commitment as it stands, and who answers for it while it is open; zeros where none stands.
    function posted(address lane, uint64 epoch)
        external
        view
        returns (bytes32 hash, uint64 postedAt, uint64 follows, address poster, bool succeeded)
    {
        Entry storage entry = _posted[lane][epoch];
        return (entry.hash, entry.postedAt, entry.follows, entry.hash == 0 ? address(0) : _lanes[lane].poster, entry.succeeded);
    }

    /// @notice Leaf of an account in an earnings tree; its amount is `cumulative`.
    function earningsLeaf(address account, uint128 cumulative) external pure returns (bytes32) {
        return Leaves.earningsLeaf(account, cumulative);
    }

    /// @notice Leaf of a receipt in a receipt tree; its amount is the receipt's price.
    /// @dev The voucher's signature is in it by hash, so that the tree commits to the very voucher that was redeemable.
    function receiptLeaf(bytes32 receiptId, bytes32 receiptDigest, bytes32 voucherDigest, bytes32 signatureHash)
        external
        pure
        returns (bytes32)
    {
        return Leaves.receiptLeaf(receiptId, receiptDigest, voucherDigest, signatureHash);
    }

    /// @notice The root and total a leaf leads to, for anyone who wants to check a proof before sending it.
    function climb(bytes32 leaf, uint128 amount, uint32 index, uint32 count, MerkleSum.Step[] calldata path)
        external
        pure
        returns (bytes32, uint128)
    {
        return MerkleSum.climb(leaf, amount, index, count, path);
    }

    // ---- checks -----------------------------------------------------------------------------------------------------

    /// @dev An empty tree is written as root 0, count 0, sum 0, and only so. Each receipt has a line at least: were there
    /// fewer, no demand could reach what is missing.
    function _requireConsistent(Commitment calldata commitment) private pure {
        bool noReceipts = commitment.receiptCount == 0;
        bool noAccounts = commitment.accountCount == 0;
        if (
            noReceipts != (commitment.receiptRoot == 0) || noReceipts != (commitment.receiptSum == 0)
                || noReceipts != (commitment.lineCount == 0) || commitment.lineCount < commitment.receiptCount
                || noAccounts != (commitment.earningsRoot == 0) || noAccounts != (commitment.cumulativeTotal == 0)
        ) revert InconsistentCommitment();
    }

    function _requirePosted(address lane, Commitment calldata commitment) private view returns (uint64 until) {
        until = finalAt(lane, commitment.epoch);
        if (bytes32(_posted[lane][commitment.epoch].hash) != hashCommitment(commitment)) {
            revert UnknownCommitment(lane, commitment.epoch);
        }
    }

    function _requireFinal(address lane, Commitment calldata commitment) private view {
        uint64 until = _requirePosted(lane, commitment);
        if (block.timestamp < until) revert WindowOpen(until);
    }

    function _requireEarned(Commitment calldata commitment, Claim calldata claim) private pure {
        Leaves.requireLeaf(
            commitment.earningsRoot,
            commitment.cumulativeTotal,
            commitment.accountCount,
            Leaves.earningsLeaf(claim.account, claim.cumulative),
            claim.cumulative,
            claim.index,
            claim.path
        );
    }
}
