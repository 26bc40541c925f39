// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Fund, Funds} from "./Fund.sol";
import {Till} from "./Till.sol";

/// @notice Where redeemed money goes: the pots of lanes.
/// @dev Crediting is a call and not a bare transfer, so that the pots decide whether they can take the money: a lane
/// whose unsettled pot outgrows what stands behind it is refused here, before the payer is debited for good.
interface IPots {
    function credit(address lane, uint64 epoch, uint128 amount) external;
    function currentEpoch() external view returns (uint64);
    /// @notice Whether the guardian has paused deposits, redemptions and postings.
    function paused() external view returns (bool);
    /// @notice Whether `caller` may act for a lane that has left its commitments undone.
    function isSuccessor(address lane, address caller) external view returns (bool);
}

/// @title Clients' money, and the vouchers that move it.
/// @notice An owner deposits; its session keys sign cumulative vouchers, one series per channel (session key, lane);
/// the lane redeems the latest of each. Nothing moves money but a payer's signature, and a voucher is paid whole or
/// not at all: a lane that is paid half of a voucher could not say which receipts were paid.
/// @dev Immutable and ownerless: no proxy, no parameter that changes. The guardian's pause stops deposits and redemptions for
/// a time, never what goes out to owners. Amounts are uint128 token units.
contract Escrow is EIP712, Till {
    using SafeERC20 for IERC20;
    using Funds for Fund;

    /// @notice Signed by the payer's session key. `cumulative` includes `price`; `receiptHash` names the receipt paid.
    /// @dev Only payer, lane, epoch and cumulative matter here; the rest is signed so that receipts, commitments and
    /// fraud proofs can be held against it.
    struct Voucher {
        address payer;
        address lane;
        uint64 seq;
        uint64 epoch;
        uint128 cumulative;
        uint128 price;
        bytes32 receiptHash;
    }

    /// @notice Ties an owner, a session key and an Ed25519 peer key together. Times are Unix seconds.
    struct PeerBinding {
        address owner;
        address sessionKey;
        bytes32 ed25519Key;
        uint64 notBefore;
        uint64 notAfter;
    }

    /// @notice What is remembered of a bound session key. One slot.
    struct Session {
        address owner;
        uint64 notAfter;
        bool revoked;
    }

    bytes32 public constant VOUCHER_TYPEHASH = keccak256(
        "Voucher(address payer,address lane,uint64 seq,uint64 epoch,uint128 cumulative,uint128 price,bytes32 receiptHash)"
    );
    bytes32 public constant BINDING_TYPEHASH = keccak256(
        "PeerBinding(address owner,address sessionKey,bytes32 ed25519Key,uint64 notBefore,uint64 notAfter)"
    );

    /// @notice The one token of this deployment. ETH is used through its wrapped form.
    /// @notice The contract that holds the lanes' pots. Deployed after this one, at the address given in advance.
    IPots public immutable settlement;
    /// @notice Seconds between the notice that money or a session key leaves and its leaving. Longer than a lane ever
    /// needs to redeem what it was given (Settlement's constructor holds that).
    uint64 public immutable thawPeriod;

    mapping(address owner => Fund) private _balances;
    mapping(address payer => mapping(address lane => Fund)) private _reservations;
    /// @notice What of a channel has been paid: the cumulative amount of the last voucher redeemed.
    mapping(address payer => mapping(address lane => uint128)) public redeemed;
    /// @notice Session keys. A key belongs to one owner for ever, so that no later binding re-assigns its vouchers.
    mapping(address sessionKey => Session) public sessions;

    event Deposited(address indexed owner, address indexed from, uint128 amount);
    event Thawing(address indexed owner, uint128 amount, uint64 thawAt);
    event Withdrawn(address indexed owner, uint128 amount);
    event Reserved(address indexed payer, address indexed lane, uint128 amount);
    event ReservationThawing(address indexed payer, address indexed lane, uint128 amount, uint64 thawAt);
    event ReservationReleased(address indexed payer, address indexed lane, uint128 amount);
    /// @notice The Ed25519 half of a binding cannot be checked here at a sane price (about 500k gas); whoever reads
    /// this event and cares for `ed25519Key` checks that third signature off chain and ignores what is not signed.
    event Bound(
        address indexed owner, address indexed sessionKey, bytes32 indexed ed25519Key, uint64 notBefore, uint64 notAfter
    );
    event Revoked(address indexed owner, address indexed sessionKey, uint64 notAfter);
    event Redeemed(
        address indexed payer, address indexed lane, uint64 seq, uint64 epoch, uint128 amount, uint128 cumulative
    );

    error ZeroAmount();
    error InsufficientBalance(address owner, uint128 needed, uint128 available);
    error InsufficientEscrow(address payer, address lane, uint128 needed, uint128 available);
    error NotOwner(address sessionKey, address caller);
    error NotLane(address lane, address caller);
    error WrongLane(address wanted, address given);
    error BadSignature(address expected);
    error BindingNotYetValid(uint64 notBefore);
    error BindingExpired(uint64 notAfter);
    error BindingNotLater(uint64 notAfter);
    error SessionTaken(address sessionKey, address owner);
    error SessionRevoked(address sessionKey);
    error UnknownSession(address payer);
    error SessionExpired(address payer, uint64 notAfter);
    error NothingToRedeem(address payer, address lane, uint128 redeemed);
    error FutureEpoch(address payer, uint64 epoch, uint64 current);
    error LengthMismatch();
    error IsPaused();

    /// @param token_ the token; refused later if it takes a fee on transfer
    /// @param settlement_ where the Settlement of this deployment will stand (it checks that it does)
    /// @param thawPeriod_ seconds
    constructor(IERC20 token_, IPots settlement_, uint64 thawPeriod_) EIP712("Commonlore", "1") Till(token_) {
        settlement = settlement_;
        thawPeriod = thawPeriod_;
    }

    // ---- money in and out ---------------------------------------------------------------------------------------

    /// @notice Adds `amount` of the caller's tokens to `owner`'s balance.
    function deposit(address owner, uint128 amount) external nonReentrant {
        if (settlement.paused()) revert IsPaused();
        if (amount == 0) revert ZeroAmount();
        _balances[owner].add(amount);
        emit Deposited(owner, msg.sender, amount);
        _takeIn(amount);
    }

    /// @notice Gives notice that `amount` of the caller's unreserved balance shall leave. Replaces an earlier notice.
    function thaw(uint128 amount) external {
        _balances[msg.sender].thaw(amount, thawPeriod);
        emit Thawing(msg.sender, amount, _balances[msg.sender].thawAt);
    }

    /// @notice Pays out what of the caller's balance has thawed.
    function withdraw() external nonReentrant {
        uint128 amount = _balances[msg.sender].release();
        emit Withdrawn(msg.sender, amount);
        token.safeTransfer(msg.sender, amount);
    }

    /// @notice Sets `amount` of the caller's balance aside for one channel, where no other lane can take it.
    function reserve(address payer, address lane, uint128 amount) external {
        _requireOwner(payer);
        if (amount == 0) revert ZeroAmount();
        Fund storage balance = _balances[msg.sender];
        if (amount > balance.amount) revert InsufficientBalance(msg.sender, amount, balance.amount);
        balance.take(amount);
        _reservations[payer][lane].add(amount);
        emit Reserved(payer, lane, amount);
    }

    /// @notice Gives notice that `amount` of a reservation shall go back to the balance. Until then it pays vouchers.
    function thawReservation(address payer, address lane, uint128 amount) external {
        _requireOwner(payer);
        Fund storage reservation = _reservations[payer][lane];
        reservation.thaw(amount, thawPeriod);
        emit ReservationThawing(payer, lane, amount, reservation.thawAt);
    }

    /// @notice Moves what of a reservation has thawed back to the owner's balance.
    function releaseReservation(address payer, address lane) external {
        _requireOwner(payer);
        uint128 amount = _reservations[payer][lane].release();
        _balances[msg.sender].add(amount);
        emit ReservationReleased(payer, lane, amount);
    }

    // ---- session keys -------------------------------------------------------------------------------------------

    /// @notice Records a session key. Anyone may submit it: a worker brings the binding of the client that pays it.
    /// @dev Both keys sign the same struct: the owner, that this key may spend; the key, that it belongs to this
    /// owner (nobody can claim a stranger's key or lane). A binding with a later notAfter renews; after a revocation
    /// nothing does, because old bindings are public and would undo it.
    function bind(PeerBinding calldata binding, bytes calldata ownerSignature, bytes calldata sessionSignature)
        external
    {
        if (block.timestamp < binding.notBefore) revert BindingNotYetValid(binding.notBefore);
        if (block.timestamp > binding.notAfter) revert BindingExpired(binding.notAfter);
        Session storage session = sessions[binding.sessionKey];
        if (session.owner != address(0) && session.owner != binding.owner) {
            revert SessionTaken(binding.sessionKey, session.owner);
        }
        if (session.revoked) revert SessionRevoked(binding.sessionKey);
        if (binding.notAfter <= session.notAfter) revert BindingNotLater(session.notAfter);
        bytes32 digest = bindingDigest(binding);
        _requireSigned(digest, ownerSignature, binding.owner);
        _requireSigned(digest, sessionSignature, binding.sessionKey);
        session.owner = binding.owner;
        session.notAfter = binding.notAfter;
        emit Bound(binding.owner, binding.sessionKey, binding.ed25519Key, binding.notBefore, binding.notAfter);
    }

    /// @notice Ends a session key after the thaw period, or at its notAfter if that is sooner.
    /// @dev Never at once: a payer must not be able to void, by revoking, the vouchers it has given. As a lane, the
    /// key loses its say at once (see speaksFor); the owner keeps it.
    function revoke(address sessionKey) external {
        _requireOwner(sessionKey);
        Session storage session = sessions[sessionKey];
        if (session.revoked) revert SessionRevoked(sessionKey);
        uint64 end = uint64(block.timestamp) + thawPeriod;
        session.revoked = true;
        if (end < session.notAfter) session.notAfter = end;
        emit Revoked(msg.sender, sessionKey, session.notAfter);
    }

    /// @notice Whether `caller` may act for `lane`: its owner always, the lane's key itself while it is good. A key
    /// that was never bound speaks for itself.
    function speaksFor(address lane, address caller) public view returns (bool) {
        Session storage session = sessions[lane];
        if (session.owner == address(0)) return caller == lane;
        if (caller == session.owner) return true;
        return caller == lane && !session.revoked && block.timestamp <= session.notAfter;
    }

    // ---- vouchers -----------------------------------------------------------------------------------------------

    /// @notice Pays one voucher of each of several channels of `lane` into the lane's pot. All or none of them. By the lane,
    /// its owner, or a successor while the lane owes a commitment for too long.
    /// @dev One lane a call, so that there is one transfer and one credit however many channels there are. Errors
    /// name the payer, so that the caller can leave that voucher out and send the others.
    function redeemMany(address lane, Voucher[] calldata vouchers, bytes[] calldata signatures) external nonReentrant {
        if (settlement.paused()) revert IsPaused();
        if (!speaksFor(lane, msg.sender) && !settlement.isSuccessor(lane, msg.sender)) revert NotLane(lane, msg.sender);
        if (vouchers.length != signatures.length) revert LengthMismatch();
        uint64 current = settlement.currentEpoch();
        bytes32 domain = _domainSeparatorV4();
        uint64 latest;
        uint128 total;
        for (uint256 i; i < vouchers.length; ++i) {
            Voucher calldata voucher = vouchers[i];
            (address payer, uint64 epoch) = (voucher.payer, voucher.epoch);
            if (voucher.lane != lane) revert WrongLane(lane, voucher.lane);
            // An epoch that has not begun could not be committed for as long as the payer pleases.
            if (epoch > current) revert FutureEpoch(payer, epoch, current);
            if (epoch > latest) latest = epoch;
            _requireSigned(_digestOf(domain, voucher), signatures[i], payer);
            total += _debit(payer, lane, voucher);
        }
        if (total == 0) revert ZeroAmount();
        uint256 before = token.balanceOf(address(settlement));
        token.safeTransfer(address(settlement), total);
        _requireArrived(total, token.balanceOf(address(settlement)) - before);
        settlement.credit(lane, latest, total);
    }

    /// @dev Checks what stands behind a voucher and takes its increase: from the reservation first, then from the owner's
    /// balance.
    function _debit(address payer, address lane, Voucher calldata voucher) private returns (uint128 amount) {
        Session memory session = sessions[payer];
        if (session.owner == address(0)) revert UnknownSession(payer);
        if (block.timestamp > session.notAfter) revert SessionExpired(payer, session.notAfter);
        uint128 cumulative = voucher.cumulative;
        uint128 done = redeemed[payer][lane];
        if (cumulative <= done) revert NothingToRedeem(payer, lane, done);
        amount = cumulative - done;
        redeemed[payer][lane] = cumulative;
        _take(payer, lane, session.owner, amount);
        emit Redeemed(payer, lane, voucher.seq, voucher.epoch, amount, cumulative);
    }

    function _take(address payer, address lane, address owner, uint128 amount) private {
        Fund storage reservation = _reservations[payer][lane];
        Fund storage balance = _balances[owner];
        (uint128 reserved, uint128 free) = (reservation.amount, balance.amount);
        if (amount > reserved) {
            if (amount - reserved > free) revert InsufficientEscrow(payer, lane, amount, reserved + free);
            balance.take(amount - reserved);
            amount = reserved;
        }
        if (amount != 0) reservation.take(amount);
    }

    /// @dev The voucher's digest, from its seven words as they came. Words that are too large make another digest, which
    /// nobody signed.
    function _digestOf(bytes32 domain, Voucher calldata voucher) private pure returns (bytes32 digest) {
        bytes32 typehash = VOUCHER_TYPEHASH;
        assembly ("memory-safe") {
            let scratch := mload(0x40)
            mstore(scratch, typehash)
            calldatacopy(add(scratch, 0x20), voucher, 0xe0)
            let structHash := keccak256(scratch, 0x100)
            mstore(scratch, hex"1901")
            mstore(add(scratch, 0x02), domain)
            mstore(add(scratch, 0x22), structHash)
            digest := keccak256(scratch, 0x42)
        }
    }

    // ---- reading ------------------------------------------------------------------------------------------------

    function balanceOf(address owner) external view returns (Fund memory) {
        return _balances[owner];
    }

    function reservationOf(address payer, address lane) external view returns (Fund memory) {
        return _reservations[payer][lane];
    }

    /// @notice All that decides whether a channel's next voucher will be paid, in one consistent reading.
    function channelOf(address payer, address lane)
        external
        view
        returns (Session memory session, Fund memory balance, Fund memory reservation, uint128 paid)
    {
        session = sessions[payer];
        return (session, _balances[session.owner], _reservations[payer][lane], redeemed[payer][lane]);
    }

    /// @notice Owner of a session key or lane; zero if it was never bound.
    function ownerOf(address sessionKey) external view returns (address) {
        return sessions[sessionKey].owner;
    }

    /// @notice The one EIP-712 domain of a deployment; Settlement and Registry hash under it too.
    function domainSeparator() external view returns (bytes32) {
        return _domainSeparatorV4();
    }

    function voucherDigest(Voucher calldata voucher) public view returns (bytes32) {
        return _digestOf(_domainSeparatorV4(), voucher);
    }

    function bindingDigest(PeerBinding calldata binding) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(BINDING_TYPEHASH, binding)));
    }

    // ---- checks -------------------------------------------------------------------------------------------------

    function _requireOwner(address sessionKey) private view {
        if (sessions[sessionKey].owner != msg.sender) revert NotOwner(sessionKey, msg.sender);
    }

    /// @dev tryRecover refuses the high half of s and the zero address, so a signature has one form.
    function _requireSigned(bytes32 digest, bytes calldata signature, address expected) private pure {
        (address signer, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (failure != ECDSA.RecoverError.NoError || signer != expected) revert BadSignature(expected);
    }
}
