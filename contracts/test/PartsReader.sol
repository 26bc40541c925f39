// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Receipt} from "../src/Leaves.sol";
import {Parts} from "../src/Parts.sol";

/// @title What the proofs take an adapter's part of a receipt to be, for tests.
contract PartsReader {
    function partOf(Receipt calldata receipt, bytes32 adapter) external pure returns (uint256[5] memory) {
        return Parts.partOf(receipt, adapter);
    }

    function areWhole(Receipt calldata receipt) external pure returns (bool) {
        return Parts.areWhole(receipt.adapters);
    }
}
