// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Bonds} from "../src/Bonds.sol";
import {CommonloreToken} from "../src/CommonloreToken.sol";
import {Escrow, IPots} from "../src/Escrow.sol";
import {Registry} from "../src/Registry.sol";
import {Settlement} from "../src/Settlement.sol";

/// @notice What forge and halmos offer to tests, as far as these use it.
interface Vm {
    function warp(uint256 timestamp) external;
    function prank(address sender) external;
    function addr(uint256 key) external pure returns (address);
    function sign(uint256 key, bytes32 digest) external pure returns (uint8 v, bytes32 r, bytes32 s);
    function getNonce(address account) external view returns (uint64);
    function computeCreateAddress(address deployer, uint256 nonce) external pure returns (address);
    function assume(bool condition) external pure;
}

/// @notice The contracts that hold money, with the deployer as the one challenger.
contract Stage {
    Vm internal constant vm = Vm(address(uint160(uint256(keccak256("hevm cheat code")))));
    uint64 internal constant START = 1_800_000_000;
    uint64 internal constant EPOCH = 1_000;
    uint64 internal constant WINDOW = 500;
    uint64 internal constant ANSWER = 100;
    address internal constant PLATFORM = address(0xA1);
    address internal constant POOL = address(0xA2);

    CommonloreToken public token;
    Escrow public escrow;
    Registry public registry;
    Bonds public bonds;
    Settlement public settlement;

    function deploy(address challenger, uint64 potPerBond, uint128 minimumBond) internal {
        vm.warp(START);
        token = new CommonloreToken();
        address planned = vm.computeCreateAddress(address(this), vm.getNonce(address(this)) + 3);
        escrow = new Escrow(token, IPots(planned), 10_000);
        Registry.Split memory none;
        registry = new Registry(escrow, none, Registry.Split(10_000, 10_000, 10_000, 10_000, 10_000));
        address[] memory slashers = new address[](1);
        slashers[0] = planned;
        bonds = new Bonds(token, 10_000, slashers);
        address[] memory challengers = new address[](1);
        challengers[0] = challenger;
        settlement = new Settlement(
            Settlement.Parts(escrow, registry, bonds, PLATFORM, PLATFORM, POOL),
            Settlement.Terms(START, EPOCH, 0, WINDOW, ANSWER, 5_000, 30 days, potPerBond, minimumBond),
            challengers
        );
        require(address(settlement) == planned, "planned elsewhere");
    }

    function bind(uint256 owner, uint256 session) internal {
        Escrow.PeerBinding memory binding =
            Escrow.PeerBinding(vm.addr(owner), vm.addr(session), bytes32(0), 0, type(uint64).max);
        bytes32 digest = escrow.bindingDigest(binding);
        escrow.bind(binding, signed(owner, digest), signed(session, digest));
    }

    function signed(uint256 key, bytes32 digest) internal pure returns (bytes memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return abi.encodePacked(r, s, v);
    }
}
