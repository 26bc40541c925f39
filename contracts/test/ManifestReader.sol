// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Manifests} from "../src/Manifests.sol";

/// @title What a library reads from any bytes, for tests.
contract ManifestReader {
    function authorPayee(bytes calldata manifest) external pure returns (address) {
        return Manifests.authorPayee(manifest);
    }
}
