// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Bonds} from "../src/Bonds.sol";
import {Commitment} from "../src/Commitment.sol";
import {Escrow, IPots} from "../src/Escrow.sol";
import {Leaves} from "../src/Leaves.sol";
import {MerkleSum} from "../src/MerkleSum.sol";
import {Registry} from "../src/Registry.sol";
import {Settlement} from "../src/Settlement.sol";
import {CommonloreToken} from "../src/CommonloreToken.sol";

/// @notice For all values at once (halmos): money is conserved, leaves are injective, claims never exceed the pot.
/// @dev This contract stands for the escrow, the registry and the bonds, which the settlement only asks; so the settlement is
/// the one thing that is symbolic.
contract ProofsTest {
    CommonloreToken public token;
    Settlement internal lanes;
    uint64 internal constant LATER = 1 << 30;

    function setUp() public {
        token = new CommonloreToken();
        address[] memory nobody = new address[](0);
        lanes = new Settlement(
            Settlement.Parts(
                Escrow(address(this)), Registry(address(this)), Bonds(address(this)), address(1), address(1), address(2)
            ),
            Settlement.Terms(0, 1, 0, 1, 1, 3, 1, 0, 0),
            nobody
        );
    }

    // ---- what the settlement asks for

    /// @dev Asked while it is made, it hears what it wants to.
    function settlement() external view returns (address) {
        return msg.sender;
    }

    fallback() external {
        bytes4 asked = msg.sig;
        if (asked == bytes4(keccak256("thawPeriod()"))) _answer(1 << 40);
        if (asked == bytes4(keccak256("isSlasher(address)"))) _answer(1);
        if (asked == bytes4(keccak256("escrow()"))) _answer(uint160(address(this)));
        if (asked == bytes4(keccak256("ownerOf(address)"))) _answer(0);
        if (asked == bytes4(keccak256("speaksFor(address,address)"))) _answer(1);
        if (asked == bytes4(keccak256("currentPayee(address)"))) _answer(abi.decode(msg.data[4:], (uint256)));
        revert();
    }

    function _answer(uint256 word) private pure {
        assembly {
            mstore(0, word)
            return(0, 32)
        }
    }

    // ---- claims

    /// @dev Two commitments that give everything to any two accounts, in any amounts that posting accepts.
    function check_claimsNeverExceedThePot(uint128 first, uint128 second, address a, address b) public {
        uint256 sum = uint256(first) + second;
        if (first == 0 || second == 0 || sum > type(uint128).max) return;
        if (a == address(0) || b == address(0) || a == address(lanes) || b == address(lanes)) return;
        _credit(first);
        _post(10, first, 0, address(0));
        _credit(second);
        _post(20, second, first, a);
        _post(30, 0, first + second, b);
        _claim(20, second, first, a);
        _claim(30, 0, first + second, b);
        Settlement.Lane memory lane = lanes.laneOf(address(9));
        assert(lane.claimed <= lane.committed && lane.committed <= lane.pot);
        assert(token.balanceOf(address(lanes)) == lane.pot - lane.claimed);
    }

    function _credit(uint128 amount) private {
        token.mint(address(lanes), amount);
        lanes.credit(address(9), 0, amount);
    }

    function _made(uint64 epoch, uint128 receipts, uint128 total, address account)
        private
        pure
        returns (Commitment memory)
    {
        return Commitment({
            epoch: epoch,
            receiptRoot: receipts == 0 ? bytes32(0) : bytes32(uint256(1)),
            earningsRoot: total == 0 ? bytes32(0) : Leaves.earningsLeaf(account, total),
            receiptSum: receipts,
            cumulativeTotal: total,
            receiptCount: receipts == 0 ? 0 : 1,
            accountCount: total == 0 ? 0 : 1,
            dataHash: 0,
            lineRoot: 0,
            accountCreditRoot: 0,
            poolCreditRoot: 0,
            creditCount: 0,
            lineCount: receipts == 0 ? 0 : 1
        });
    }

    function _post(uint64 epoch, uint128 receipts, uint128 total, address account) private {
        _warp(100 + epoch);
        lanes.postEpoch(address(9), _made(epoch, receipts, total, account));
    }

    function _claim(uint64 epoch, uint128 receipts, uint128 total, address account) private {
        _warp(LATER);
        Settlement.Claim[] memory claims = new Settlement.Claim[](1);
        claims[0] = Settlement.Claim(account, total, 0, new MerkleSum.Step[](0));
        try lanes.claimMany(address(9), _made(epoch, receipts, total, account), claims) {} catch {}
    }

    function _warp(uint256 time) private {
        (bool done,) = address(uint160(uint256(keccak256("hevm cheat code")))).call(
            abi.encodeWithSignature("warp(uint256)", time)
        );
        assert(done);
    }

    // ---- leaves

    function check_earningsLeavesAreInjective(address a, uint128 x, address b, uint128 y) public pure {
        if (Leaves.earningsLeaf(a, x) == Leaves.earningsLeaf(b, y)) assert(a == b && x == y);
    }

    function check_receiptLeavesAreInjective(bytes32[4] calldata a, bytes32[4] calldata b) public pure {
        if (Leaves.receiptLeaf(a[0], a[1], a[2], a[3]) != Leaves.receiptLeaf(b[0], b[1], b[2], b[3])) return;
        for (uint256 i; i < 4; ++i) assert(a[i] == b[i]);
    }

    function check_creditLeavesAreInjective(
        bytes32 poolA, uint8 roleA, address accountA, uint128 amountA,
        bytes32 poolB, uint8 roleB, address accountB, uint128 amountB
    ) public pure {
        bytes32 a = keccak256(abi.encodePacked(bytes1(0x00), poolA, roleA, accountA, amountA));
        bytes32 b = keccak256(abi.encodePacked(bytes1(0x00), poolB, roleB, accountB, amountB));
        if (a == b) assert(poolA == poolB && roleA == roleB && accountA == accountB && amountA == amountB);
    }

    /// @dev A leaf is never a node, nor a leaf of one tree one of another: their packed lengths differ.
    function check_noLeafIsANode(address account, uint128 amount, bytes32 l, uint128 x, bytes32 r, uint128 y) public pure {
        bytes32 node = keccak256(abi.encodePacked(bytes1(0x01), l, x, r, y));
        assert(Leaves.earningsLeaf(account, amount) != node);
    }

    /// @dev A node fixes both children and both sums.
    function check_nodesAreInjective(bytes32 a, uint128 x, bytes32 b, uint128 y, bytes32 c, uint128 z, bytes32 d, uint128 w)
        public
        pure
    {
        bytes32 one = keccak256(abi.encodePacked(bytes1(0x01), a, x, b, y));
        bytes32 two = keccak256(abi.encodePacked(bytes1(0x01), c, z, d, w));
        if (one == two) assert(a == c && x == z && b == d && y == w);
    }
}

/// @notice The escrow's own books, for all amounts.
contract EscrowProofsTest {
    CommonloreToken internal token;
    Escrow internal escrow;

    function setUp() public {
        token = new CommonloreToken();
        escrow = new Escrow(token, IPots(address(this)), 100);
        token.approve(address(escrow), type(uint256).max);
    }

    function paused() external pure returns (bool) {
        return false;
    }

    function check_depositsAndNoticesConserve(uint128 a, uint128 b, uint128 leaving) public {
        if (a == 0 || b == 0 || uint256(a) + b > type(uint128).max || leaving == 0 || leaving > a) return;
        token.mint(address(this), uint256(a) + b);
        escrow.deposit(address(this), a);
        escrow.thaw(leaving);
        escrow.deposit(address(this), b);
        (bool done,) = address(uint160(uint256(keccak256("hevm cheat code")))).call(
            abi.encodeWithSignature("warp(uint256)", block.timestamp + 100)
        );
        assert(done);
        escrow.withdraw();
        assert(escrow.balanceOf(address(this)).amount == uint256(a) + b - leaving);
        assert(token.balanceOf(address(escrow)) == uint256(a) + b - leaving);
        assert(token.balanceOf(address(this)) == leaving);
    }
}

