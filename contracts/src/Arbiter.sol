// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {Beacon} from "./Beacon.sol";
import {Bonds} from "./Bonds.sol";
import {Escrow} from "./Escrow.sol";
import {Till} from "./Till.sol";

/// @notice What a drawn auditor or attributor says about a receipt, signed (EIP-712). `subject` is the receipt's digest.
struct Attestation {
    bytes32 subject;
    bytes32 verdict;
    uint64 round;
    uint8 role;
    address attester;
}

/// @title What the chain cannot decide: two drawn peers who contradict each other.
/// @notice Anyone brings the two signed attestations; both bonds freeze. The judge says who was wrong, the loser may appeal
/// to another judge, and at most a fixed part of a bond is lost. Where nobody rules in time, nothing happens.
contract Arbiter is Till {
    using SafeERC20 for IERC20;

    enum Phase {
        None,
        Opened,
        Ruled,
        Appealed,
        RuledFinally,
        Closed
    }

    struct Case {
        Phase phase;
        uint8 role;
        uint64 until;
        address first;
        address second;
        address loser;
        address appellant;
        bytes32 subject;
    }

    /// @notice rulingTime and appealTime in seconds; cap in basis points of a bond; odds: an account is drawn for a receipt
    /// where a hash of both falls in the lowest `oddsPpm` millionths.
    struct Terms {
        uint64 rulingTime;
        uint64 appealTime;
        uint16 capBps;
        uint32 oddsPpm;
        uint128 appealStake;
        uint128 minimumBond;
    }

    bytes32 public constant ATTESTATION_TYPEHASH =
        keccak256("Attestation(bytes32 subject,bytes32 verdict,uint64 round,uint8 role,address attester)");
    address private constant ASHES = address(0xdEaD);
    uint256 private constant WHOLE = 10_000;
    uint256 private constant PPM = 1_000_000;

    Escrow public immutable escrow;
    Bonds public immutable bonds;
    Beacon public immutable beacon;
    address public immutable judge;
    address public immutable appealJudge;
    uint64 public immutable rulingTime;
    uint64 public immutable appealTime;
    uint16 public immutable capBps;
    uint32 public immutable oddsPpm;
    uint128 public immutable appealStake;
    uint128 public immutable minimumBond;

    mapping(bytes32 id => Case) public cases;
    /// @notice The open case of a receipt and role, or the last one.
    mapping(bytes32 subject => mapping(uint8 role => bytes32)) public caseOf;
    /// @notice Who was found wrong about a receipt.
    mapping(bytes32 subject => mapping(uint8 role => mapping(address attester => bool))) public wasWrong;

    event CaseOpened(
        bytes32 indexed id, bytes32 indexed subject, uint8 role, address first, address second, uint64 until
    );
    event Ruled(bytes32 indexed id, address loser, uint64 until);
    event Appealed(bytes32 indexed id, uint64 until);
    event RuledFinally(bytes32 indexed id, address loser);
    event CaseClosed(bytes32 indexed id, address loser, uint128 slashed);

    error BadTerms();
    error NotConflicting();
    error NotDrawn(address attester);
    error BadSignature(address expected);
    error AlreadyOpened(bytes32 id);
    error WrongPhase(Phase phase);
    error NotJudge(address caller);
    error NotLoser(address caller);
    error NotParty(address loser);
    error TooLate(uint64 until);
    error TooEarly(uint64 until);

    constructor(Escrow escrow_, Bonds bonds_, Beacon beacon_, address judge_, address appealJudge_, Terms memory terms)
        Till(bonds_.token())
    {
        if (terms.capBps > WHOLE || terms.oddsPpm > PPM) revert BadTerms();
        escrow = escrow_;
        bonds = bonds_;
        beacon = beacon_;
        judge = judge_;
        appealJudge = appealJudge_;
        rulingTime = terms.rulingTime;
        appealTime = terms.appealTime;
        capBps = terms.capBps;
        oddsPpm = terms.oddsPpm;
        appealStake = terms.appealStake;
        minimumBond = terms.minimumBond;
    }

    // ---- draws ------------------------------------------------------------------------------------------------------

    /// @notice Whether an account is drawn to look at a receipt: by the round's seed, if it was bonded before the round.
    /// @dev Each account that could be drawn holds a bond, so more accounts cost more bonds: there is nothing to win by them.
    function isDrawn(address account, uint8 role, bytes32 subject, uint64 round) public view returns (bool) {
        return _isDrawn(account, role, subject, round, bonds.since(account, role));
    }

    function _isDrawn(address account, uint8 role, bytes32 subject, uint64 round, uint64 since)
        private
        view
        returns (bool)
    {
        bytes32 seed = beacon.seed(round);
        if (seed == 0 || (role != bonds.AUDITOR() && role != bonds.ATTRIBUTOR())) return false;
        uint128 bonded = bonds.bondOf(account, role).amount;
        if (since == 0 || since >= beacon.startOf(round) || bonded == 0 || bonded < minimumBond) return false;
        return uint256(keccak256(abi.encode(seed, subject, role, account))) % PPM < oddsPpm;
    }

    function attestationDigest(Attestation calldata attestation) public view returns (bytes32) {
        bytes32 structHash = keccak256(abi.encode(ATTESTATION_TYPEHASH, attestation));
        return MessageHashUtils.toTypedDataHash(escrow.domainSeparator(), structHash);
    }

    // ---- cases ------------------------------------------------------------------------------------------------------

    /// @notice Brings two attestations on one receipt that differ.
    function open(
        Attestation calldata first,
        bytes calldata firstSignature,
        Attestation calldata second,
        bytes calldata secondSignature
    ) external returns (bytes32 id) {
        if (
            first.subject != second.subject || first.role != second.role || first.round != second.round
                || first.attester == second.attester || first.verdict == second.verdict
        ) revert NotConflicting();
        _requireDrawn(first, firstSignature);
        _requireDrawn(second, secondSignature);
        id = caseOf[first.subject][first.role];
        if (id != 0) revert AlreadyOpened(id);
        id = keccak256(abi.encode(first.subject, first.role));
        caseOf[first.subject][first.role] = id;
        uint64 until = uint64(block.timestamp) + rulingTime;
        cases[id] = Case({
            phase: Phase.Opened,
            role: first.role,
            until: until,
            first: first.attester,
            second: second.attester,
            loser: address(0),
            appellant: address(0),
            subject: first.subject
        });
        emit CaseOpened(id, first.subject, first.role, first.attester, second.attester, until);
        bonds.freeze(first.attester, first.role);
        bonds.freeze(second.attester, second.role);
    }

    /// @dev Topping up a bond ends draws for pay, not what was said before: nobody gets out of a case by it.
    function _requireDrawn(Attestation calldata attestation, bytes calldata signature) private view {
        (address attester, uint8 role) = (attestation.attester, attestation.role);
        uint64 begun = bonds.begun(attester, role);
        if (!_isDrawn(attester, role, attestation.subject, attestation.round, begun)) revert NotDrawn(attester);
        requireSigned(attestation, signature);
    }

    /// @notice Reverts unless its attester signed an attestation.
    function requireSigned(Attestation calldata attestation, bytes calldata signature) public view {
        address attester = attestation.attester;
        (address signer, ECDSA.RecoverError failure,) =
            ECDSA.tryRecoverCalldata(attestationDigest(attestation), signature);
        if (failure != ECDSA.RecoverError.NoError || signer != attester) revert BadSignature(attester);
    }

    /// @notice The judge names who was wrong; zero: neither.
    function rule(bytes32 id, address loser) external {
        Case storage dispute = _inPhase(id, Phase.Opened);
        if (msg.sender != judge) revert NotJudge(msg.sender);
        _requireInTime(dispute);
        _requireParty(dispute, loser);
        dispute.phase = Phase.Ruled;
        dispute.loser = loser;
        dispute.until = uint64(block.timestamp) + appealTime;
        emit Ruled(id, loser, dispute.until);
    }

    /// @notice The loser asks another judge, with a stake that is lost if that one says the same.
    function appeal(bytes32 id) external nonReentrant {
        Case storage dispute = _inPhase(id, Phase.Ruled);
        if (msg.sender != dispute.loser) revert NotLoser(msg.sender);
        _requireInTime(dispute);
        dispute.phase = Phase.Appealed;
        dispute.appellant = msg.sender;
        dispute.until = uint64(block.timestamp) + rulingTime;
        emit Appealed(id, dispute.until);
        if (appealStake != 0) _takeIn(appealStake);
    }

    /// @notice The second judge's word, which is the last.
    function ruleFinally(bytes32 id, address loser) external {
        Case storage dispute = _inPhase(id, Phase.Appealed);
        if (msg.sender != appealJudge) revert NotJudge(msg.sender);
        _requireInTime(dispute);
        _requireParty(dispute, loser);
        dispute.phase = Phase.RuledFinally;
        dispute.loser = loser;
        emit RuledFinally(id, loser);
    }

    /// @notice Does what was ruled, once it cannot change any more. Without a ruling in time, nobody loses anything.
    function execute(bytes32 id) external nonReentrant {
        Case storage dispute = cases[id];
        Phase phase = dispute.phase;
        if (phase == Phase.None || phase == Phase.Closed) revert WrongPhase(phase);
        if (phase != Phase.RuledFinally && block.timestamp < dispute.until) revert TooEarly(dispute.until);
        bool decided = phase == Phase.Ruled || phase == Phase.RuledFinally;
        address loser = decided ? dispute.loser : address(0);
        dispute.phase = Phase.Closed;
        dispute.loser = loser;
        uint128 slashed;
        if (loser != address(0)) {
            wasWrong[dispute.subject][dispute.role][loser] = true;
            uint128 most = uint128(uint256(bonds.bondOf(loser, dispute.role).amount) * capBps / WHOLE);
            slashed = bonds.slash(loser, dispute.role, most, loser == dispute.first ? dispute.second : dispute.first);
        }
        emit CaseClosed(id, loser, slashed);
        bonds.unfreeze(dispute.first, dispute.role);
        bonds.unfreeze(dispute.second, dispute.role);
        if (dispute.appellant == address(0) || appealStake == 0) return;
        token.safeTransfer(loser == dispute.appellant ? ASHES : dispute.appellant, appealStake);
    }

    /// @notice Whether an attester's word on a receipt stands: it was not found wrong, and no case about it is open.
    function isGood(bytes32 subject, uint8 role, address attester) external view returns (bool) {
        bytes32 id = caseOf[subject][role];
        return (id == 0 || cases[id].phase == Phase.Closed) && !wasWrong[subject][role][attester];
    }

    // ---- checks -----------------------------------------------------------------------------------------------------

    function _inPhase(bytes32 id, Phase phase) private view returns (Case storage dispute) {
        dispute = cases[id];
        if (dispute.phase != phase) revert WrongPhase(dispute.phase);
    }

    function _requireInTime(Case storage dispute) private view {
        if (block.timestamp >= dispute.until) revert TooLate(dispute.until);
    }

    function _requireParty(Case storage dispute, address loser) private view {
        if (loser != address(0) && loser != dispute.first && loser != dispute.second) revert NotParty(loser);
    }
}
