// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuard} from "@openzeppelin/contracts/utils/ReentrancyGuard.sol";

/// @title Whatever takes tokens in: which token, and that what was asked for arrived.
abstract contract Till is ReentrancyGuard {
    using SafeERC20 for IERC20;

    IERC20 public immutable token;

    error TransferFellShort(uint256 wanted, uint256 arrived);

    constructor(IERC20 token_) {
        token = token_;
    }

    /// @dev From the caller.
    function _takeIn(uint256 amount) internal {
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        _requireArrived(amount, token.balanceOf(address(this)) - before);
    }

    /// @dev A token that keeps a fee would leave promises without money behind them.
    function _requireArrived(uint256 wanted, uint256 arrived) internal pure {
        if (arrived != wanted) revert TransferFellShort(wanted, arrived);
    }
}
