// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Division} from "./Division.sol";
import {AdapterWeight, Receipt, Shares} from "./Leaves.sol";

/// @title A receipt's parts: what of it the pool of each of its adapters has (protocol/receipt_parts.py).
/// @notice The author's and the contributors' amount are divided by the adapters' weights, each adapter's author and
/// contributors having its part. The other roles' amounts are the heaviest adapter's, whose split divided the price.
library Parts {
    uint256 internal constant MOST = 8;
    uint256 internal constant WHOLE = 1_000_000;

    /// @notice An adapter's five amounts of a receipt; zeros if it does not name it. Without adapters all is the part of 0.
    function partOf(Receipt calldata receipt, bytes32 adapter) internal pure returns (uint256[5] memory part) {
        AdapterWeight[] calldata adapters = receipt.adapters;
        if (adapters.length == 0) return adapter == 0 ? amounts(receipt.shares) : part;
        if (adapter == heaviest(adapters)) {
            (part[0], part[1], part[3]) = (receipt.shares.platform, receipt.shares.worker, receipt.shares.workPool);
        }
        (part[2], part[4]) =
            (_partOf(receipt.shares.author, adapters, adapter), _partOf(receipt.shares.contributors, adapters, adapter));
    }

    /// @notice The adapter whose split divides a price: ties to the lowest id.
    function heaviest(AdapterWeight[] calldata adapters) internal pure returns (bytes32 adapter) {
        uint32 most;
        for (uint256 i; i < adapters.length; ++i) {
            AdapterWeight calldata entry = adapters[i];
            if (i != 0 && (entry.weightPpm < most || (entry.weightPpm == most && entry.adapter >= adapter))) continue;
            (adapter, most) = (entry.adapter, entry.weightPpm);
        }
    }

    /// @notice Whether adapters are few and distinct, and their weights make a whole, none being 0.
    function areWhole(AdapterWeight[] calldata adapters) internal pure returns (bool) {
        if (adapters.length == 0) return true;
        if (adapters.length > MOST) return false;
        uint256 sum;
        for (uint256 i; i < adapters.length; ++i) {
            if (adapters[i].weightPpm == 0) return false;
            for (uint256 j; j < i; ++j) if (adapters[i].adapter == adapters[j].adapter) return false;
            sum += adapters[i].weightPpm;
        }
        return sum == WHOLE;
    }

    /// @notice A receipt's amounts in the order of the roles.
    function amounts(Shares calldata shares) internal pure returns (uint256[5] memory) {
        return [uint256(shares.platform), shares.worker, shares.author, shares.workPool, shares.contributors];
    }

    function _partOf(uint256 amount, AdapterWeight[] calldata adapters, bytes32 adapter) private pure returns (uint256) {
        uint256[] memory weights = new uint256[](adapters.length);
        uint256[] memory keys = new uint256[](adapters.length);
        for (uint256 i; i < adapters.length; ++i) {
            (weights[i], keys[i]) = (adapters[i].weightPpm, uint256(adapters[i].adapter));
        }
        uint256[] memory parts = Division.apportion(amount, weights, keys);
        for (uint256 i; i < adapters.length; ++i) if (adapters[i].adapter == adapter) return parts[i];
        return 0;
    }
}
