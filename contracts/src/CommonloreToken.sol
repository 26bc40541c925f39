// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title The money of a devchain.
/// @notice A plain ERC-20 that its deployer mints. It exists so that a network on one machine has something to pay
/// with; a deployment that is worth anything names an existing token instead, because whoever holds the deployer's
/// key of this one makes money at will.
contract CommonloreToken is ERC20 {
    /// @notice The only account that may mint. Immutable: there is no role to hand over or to steal.
    address public immutable minter;

    error NotMinter(address caller);

    constructor() ERC20("Commonlore devchain token", "LORE") {
        minter = msg.sender;
    }

    /// @notice Makes `amount` new units for `account`.
    function mint(address account, uint256 amount) external {
        if (msg.sender != minter) revert NotMinter(msg.sender);
        _mint(account, amount);
    }
}
