// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {Fund, Funds} from "./Fund.sol";
import {Till} from "./Till.sol";

/// @title What accounts can lose: one bond for each account and role.
/// @notice A bond leaves after a notice that is longer than anything it answers for can be challenged (Settlement's
/// constructor holds that), and not while something it answers for is being decided. Who proves a fraud gets half of what
/// is slashed, the other half burns: whoever challenges himself still loses half.
/// @dev Only the contracts named at deployment slash or freeze.
contract Bonds is Till {
    using SafeERC20 for IERC20;
    using Funds for Fund;

    struct Bond {
        Fund fund;
        uint64 since;
        uint64 begun;
        uint32 freezes;
    }

    uint8 public constant WORKER = 0;
    uint8 public constant POSTER = 1;
    uint8 public constant CONTRIBUTOR = 2;
    uint8 public constant AUDITOR = 3;
    uint8 public constant ATTRIBUTOR = 4;
    /// @notice Where burned money lies. A transfer, because not every token can burn.
    address public constant ASHES = address(0xdEaD);

    uint64 public immutable thawPeriod;
    mapping(address caller => bool) public isSlasher;
    mapping(address account => mapping(uint8 role => Bond)) private _bonds;

    event Bonded(address indexed account, uint8 indexed role, uint128 amount);
    event BondThawing(address indexed account, uint8 indexed role, uint128 amount, uint64 thawAt);
    event BondWithdrawn(address indexed account, uint8 indexed role, uint128 amount);
    event BondFrozen(address indexed account, uint8 indexed role, uint32 freezes);
    event BondSlashed(address indexed account, uint8 indexed role, uint128 amount, address indexed challenger);

    error UnknownRole(uint8 role);
    error NothingBonded();
    error BondIsFrozen(uint32 freezes);
    error NotSlasher(address caller);

    constructor(IERC20 token_, uint64 thawPeriod_, address[] memory slashers) Till(token_) {
        thawPeriod = thawPeriod_;
        for (uint256 i; i < slashers.length; ++i) isSlasher[slashers[i]] = true;
    }

    modifier onlySlasher() {
        if (!isSlasher[msg.sender]) revert NotSlasher(msg.sender);
        _;
    }

    /// @notice Adds to the caller's bond in a role.
    /// @dev The bond counts as one of today, whole: nobody tops up after seeing who is drawn.
    function bond(uint8 role, uint128 amount) external nonReentrant {
        if (role > ATTRIBUTOR) revert UnknownRole(role);
        if (amount == 0) revert NothingBonded();
        Bond storage held = _bonds[msg.sender][role];
        if (held.fund.amount == 0) held.begun = uint64(block.timestamp);
        held.fund.add(amount);
        held.since = uint64(block.timestamp);
        emit Bonded(msg.sender, role, amount);
        _takeIn(amount);
    }

    /// @notice Gives notice that `amount` of the caller's bond shall leave; it stops counting at once.
    function thaw(uint8 role, uint128 amount) external {
        Fund storage fund = _bonds[msg.sender][role].fund;
        fund.thaw(amount, thawPeriod);
        emit BondThawing(msg.sender, role, amount, fund.thawAt);
    }

    /// @notice Pays out what has thawed, unless something is being decided that the bond answers for.
    function withdraw(uint8 role) external nonReentrant {
        Bond storage held = _bonds[msg.sender][role];
        if (held.freezes != 0) revert BondIsFrozen(held.freezes);
        uint128 amount = held.fund.release();
        emit BondWithdrawn(msg.sender, role, amount);
        token.safeTransfer(msg.sender, amount);
    }

    // ---- by the contracts that judge ------------------------------------------------------------------------------

    function freeze(address account, uint8 role) external onlySlasher {
        emit BondFrozen(account, role, ++_bonds[account][role].freezes);
    }

    function unfreeze(address account, uint8 role) external onlySlasher {
        emit BondFrozen(account, role, --_bonds[account][role].freezes);
    }

    /// @notice Takes up to `most` of a bond, what thaws included: half to `challenger`, the rest (and all, if there is
    /// no challenger) burns.
    function slash(address account, uint8 role, uint128 most, address challenger)
        external
        onlySlasher
        nonReentrant
        returns (uint128 slashed)
    {
        Fund storage fund = _bonds[account][role].fund;
        slashed = most < fund.amount ? most : fund.amount;
        if (slashed == 0) return 0;
        fund.take(slashed);
        emit BondSlashed(account, role, slashed, challenger);
        uint128 reward = challenger == address(0) ? 0 : slashed / 2;
        if (reward != 0) token.safeTransfer(challenger, reward);
        token.safeTransfer(ASHES, slashed - reward);
    }

    // ---- readings -------------------------------------------------------------------------------------------------

    function bondOf(address account, uint8 role) external view returns (Fund memory) {
        return _bonds[account][role].fund;
    }

    /// @notice What of a bond counts: what does not thaw.
    function standing(address account, uint8 role) external view returns (uint128) {
        Fund storage fund = _bonds[account][role].fund;
        return fund.amount - fund.thawing;
    }

    /// @notice When the bond was last added to.
    function since(address account, uint8 role) external view returns (uint64) {
        return _bonds[account][role].since;
    }

    /// @notice Since when there has been a bond at all, topped up or not.
    function begun(address account, uint8 role) external view returns (uint64) {
        return _bonds[account][role].begun;
    }

    function frozen(address account, uint8 role) external view returns (bool) {
        return _bonds[account][role].freezes != 0;
    }
}
