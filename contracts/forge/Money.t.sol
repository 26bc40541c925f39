// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Commitment} from "../src/Commitment.sol";
import {Escrow} from "../src/Escrow.sol";
import {MerkleSum} from "../src/MerkleSum.sol";
import {Settlement} from "../src/Settlement.sol";
import {Stage} from "./Stage.sol";

/// @notice Everybody at once, in any order: a payer, a lane that posts what it likes, claimants, a challenger.
contract Handler is Stage {
    uint256 internal constant OWNER = 0xA11CE;
    uint256 internal constant SESSION = 0xB0B;
    address internal immutable owner = vm.addr(OWNER);
    address internal immutable payer = vm.addr(SESSION);

    Commitment[] internal posted;
    address[] internal earners;
    uint128 public promised;
    uint256 public minted;
    uint128 public highestPot;
    uint128 public highestClaimed;
    uint128 public highestSettled;

    constructor() {
        deploy(address(this), 50, 10);
        token.mint(owner, 1e30);
        token.mint(address(this), 1e30);
        minted = 2e30;
        vm.prank(owner);
        token.approve(address(escrow), type(uint256).max);
        token.approve(address(bonds), type(uint256).max);
        bind(OWNER, SESSION);
        bonds.bond(1, 1e24);
    }

    function deposit(uint96 amount) external {
        vm.prank(owner);
        escrow.deposit(owner, amount);
    }

    function thaw(uint96 amount) external {
        vm.prank(owner);
        escrow.thaw(amount);
    }

    function withdraw() external {
        vm.prank(owner);
        escrow.withdraw();
    }

    function reserve(uint96 amount) external {
        vm.prank(owner);
        escrow.reserve(payer, address(this), amount);
    }

    function thawReservation(uint96 amount) external {
        vm.prank(owner);
        escrow.thawReservation(payer, address(this), amount);
    }

    function releaseReservation() external {
        vm.prank(owner);
        escrow.releaseReservation(payer, address(this));
    }

    function redeem(uint96 increase) external {
        uint128 cumulative = promised + increase;
        Escrow.Voucher[] memory vouchers = new Escrow.Voucher[](1);
        vouchers[0] =
            Escrow.Voucher(payer, address(this), 1, settlement.currentEpoch(), cumulative, increase, bytes32(0));
        bytes[] memory signatures = new bytes[](1);
        signatures[0] = signed(SESSION, escrow.voucherDigest(vouchers[0]));
        escrow.redeemMany(address(this), vouchers, signatures);
        promised = cumulative;
    }

    /// @dev One account gets everything, another one each time: what a liar would post.
    function post(uint8 who) external {
        settlement.appoint(address(this), address(this));
        (uint128 pot, uint128 committed,,,) = settlement.lanes(address(this));
        uint64 epoch = settlement.currentEpoch();
        vm.warp(settlement.postableAt(epoch));
        address account = address(uint160(0xE0) + who % 3);
        bytes32 root = committed == 0 ? bytes32(0) : settlement.earningsLeaf(account, committed);
        bytes32 receipts = pot == committed ? bytes32(0) : keccak256("receipts");
        Commitment memory made = Commitment({
            epoch: epoch,
            receiptRoot: receipts,
            earningsRoot: root,
            receiptSum: pot - committed,
            cumulativeTotal: committed,
            receiptCount: pot == committed ? 0 : 1,
            accountCount: committed == 0 ? 0 : 1,
            dataHash: 0,
            lineRoot: 0,
            accountCreditRoot: 0,
            poolCreditRoot: 0,
            creditCount: 0,
            lineCount: pot == committed ? 0 : 1
        });
        settlement.postEpoch(address(this), made);
        posted.push(made);
        earners.push(account);
    }

    function claim(uint256 which) external {
        which %= posted.length;
        Settlement.Claim[] memory claims = new Settlement.Claim[](1);
        claims[0] =
            Settlement.Claim(earners[which], posted[which].cumulativeTotal, 0, new MerkleSum.Step[](0));
        settlement.claimMany(address(this), posted[which], claims);
    }

    function finalise(uint256 which) external {
        settlement.finalise(address(this), posted[which % posted.length]);
    }

    function kill(uint256 which) external {
        settlement.kill(address(this), posted[which % posted.length], address(0xC4A), "any");
        bonds.bond(1, 1e24);
    }

    function hold(uint256 which) external {
        address poster =
            settlement.hold(address(this), posted[which % posted.length], uint64(block.timestamp) + 2 * ANSWER);
        settlement.letGo(poster);
    }

    function moveBond(uint96 amount, bool out) external {
        if (out) bonds.withdraw(1);
        else bonds.thaw(1, amount);
    }

    function closeLane() external {
        settlement.closeLane(address(this), posted[posted.length - 1]);
    }

    function claimResidue() external {
        uint256 which = posted.length - 1;
        Settlement.Claim[] memory claims = new Settlement.Claim[](1);
        claims[0] =
            Settlement.Claim(earners[which], posted[which].cumulativeTotal, 0, new MerkleSum.Step[](0));
        settlement.claimResidue(address(this), posted[which], claims);
    }

    function wait(uint32 time) external {
        vm.warp(block.timestamp + time % (40 days));
    }

    /// @dev What only grows, as far as it has been seen.
    function look() external returns (bool) {
        Settlement.Lane memory lane = settlement.laneOf(address(this));
        bool grew = lane.pot >= highestPot && lane.claimed >= highestClaimed && lane.settled >= highestSettled;
        (highestPot, highestClaimed, highestSettled) = (lane.pot, lane.claimed, lane.settled);
        return grew;
    }

    function payerOf() external view returns (address, address) {
        return (owner, payer);
    }
}

contract MoneyTest {
    Handler internal handler;

    function setUp() public {
        handler = new Handler();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(handler);
    }

    function invariant_escrowHoldsBalancesAndReservations() public view {
        (address owner, address payer) = handler.payerOf();
        uint256 owed = uint256(handler.escrow().balanceOf(owner).amount)
            + handler.escrow().reservationOf(payer, address(handler)).amount;
        assert(handler.token().balanceOf(address(handler.escrow())) == owed);
    }

    function invariant_settlementHoldsWhatIsNotClaimed() public view {
        Settlement.Lane memory lane = handler.settlement().laneOf(address(handler));
        assert(handler.token().balanceOf(address(handler.settlement())) == lane.pot - lane.claimed);
        assert(lane.claimed <= lane.committed && lane.committed <= lane.pot && lane.settled <= lane.committed);
    }

    function invariant_thePotIsWhatWasRedeemed() public view {
        (, address payer) = handler.payerOf();
        uint128 redeemed = handler.escrow().redeemed(payer, address(handler));
        assert(handler.settlement().laneOf(address(handler)).pot == redeemed);
    }

    function invariant_bondsHoldWhatIsBonded() public view {
        uint256 held = handler.token().balanceOf(address(handler.bonds()));
        assert(held == handler.bonds().bondOf(address(handler), 1).amount);
    }

    function invariant_exposureIsWhatIsNotSettled() public view {
        Settlement.Lane memory lane = handler.settlement().laneOf(address(handler));
        assert(handler.settlement().exposure(address(handler)) == lane.pot - lane.settled);
    }

    function invariant_whatOnlyGrowsGrows() public {
        assert(handler.look());
    }

    function invariant_noTokenIsMade() public view {
        assert(handler.token().totalSupply() == handler.minted());
    }
}

/// @notice Over all inputs that forge thinks of.
contract FuzzTest is Stage {
    function setUp() public {
        deploy(address(this), 0, 0);
    }

    function testFuzz_noSiblingIsTakenForAnother(bytes32 a, uint64 x, bytes32 b, uint64 y, uint64 moved) public view {
        vm.assume(moved != 0 && x >= moved);
        MerkleSum.Step[] memory path = new MerkleSum.Step[](1);
        path[0] = MerkleSum.Step(b, y);
        (bytes32 root, uint128 sum) = settlement.climb(a, x, 0, 2, path);
        path[0] = MerkleSum.Step(b, uint128(y) + moved);
        (bytes32 other, uint128 same) = settlement.climb(a, x - moved, 0, 2, path);
        assert(sum == same && root != other);
    }

    function testFuzz_whatGoesIntoTheEscrowComesOut(uint96 amount, uint96 part) public {
        vm.assume(amount > 0 && part > 0 && part <= amount);
        token.mint(address(this), amount);
        token.approve(address(escrow), amount);
        escrow.deposit(address(this), amount);
        escrow.thaw(part);
        vm.warp(block.timestamp + 10_000);
        escrow.withdraw();
        assert(token.balanceOf(address(this)) == part && escrow.balanceOf(address(this)).amount == amount - part);
    }

    function testFuzz_aVoucherMovesItsIncreaseAndNoMore(uint64 first, uint64 second) public {
        vm.assume(first > 0 && second > 0);
        token.mint(address(this), uint256(first) + second);
        token.approve(address(escrow), type(uint256).max);
        escrow.deposit(vm.addr(7), uint128(first) + second);
        bind(7, 8);
        redeem(first);
        redeem(uint128(first) + second);
        (uint128 pot,,,,) = settlement.lanes(address(this));
        assert(pot == uint128(first) + second && token.balanceOf(address(escrow)) == 0);
    }

    function redeem(uint128 cumulative) internal {
        Escrow.Voucher[] memory vouchers = new Escrow.Voucher[](1);
        vouchers[0] = Escrow.Voucher(vm.addr(8), address(this), 1, 0, cumulative, 1, bytes32(0));
        bytes[] memory signatures = new bytes[](1);
        signatures[0] = signed(8, escrow.voucherDigest(vouchers[0]));
        escrow.redeemMany(address(this), vouchers, signatures);
    }
}
