// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";

/// @title A token that misbehaves on demand: keeps a fee, or calls somewhere in the middle of a transfer.
contract HostileToken is ERC20 {
    uint256 public feePercent;
    address public target;
    bytes public call;
    bytes public answer;

    constructor() ERC20("Hostile", "EVIL") {}

    function mint(address account, uint256 amount) external {
        _mint(account, amount);
    }

    function setFee(uint256 percent) external {
        feePercent = percent;
    }

    function setCall(address target_, bytes calldata call_) external {
        target = target_;
        call = call_;
    }

    function _update(address from, address to, uint256 amount) internal override {
        if (from != address(0) && to != address(0)) {
            if (target != address(0)) (, answer) = target.call(call);
            uint256 fee = amount * feePercent / 100;
            super._update(from, address(0), fee);
            amount -= fee;
        }
        super._update(from, to, amount);
    }
}
