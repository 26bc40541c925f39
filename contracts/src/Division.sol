// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Division by largest remainder: what protocol/credits.py calls `apportion`.
library Division {
    /// @notice `total` in proportion to `weights`; the units left over go one each to the largest remainders, ties to the
    /// lowest key. The parts add up to `total`. Reverts where all weights are zero.
    function apportion(uint256 total, uint256[] memory weights, uint256[] memory keys)
        internal
        pure
        returns (uint256[] memory parts)
    {
        uint256 count = weights.length;
        uint256 whole;
        for (uint256 i; i < count; ++i) whole += weights[i];
        parts = new uint256[](count);
        uint256[] memory remainders = new uint256[](count);
        uint256 left = total;
        for (uint256 i; i < count; ++i) {
            uint256 product = total * weights[i];
            (parts[i], remainders[i]) = (product / whole, product % whole);
            left -= parts[i];
        }
        for (; left != 0; --left) {
            uint256 best;
            for (uint256 i = 1; i < count; ++i) {
                bool isLarger = remainders[i] > remainders[best];
                if (isLarger || (remainders[i] == remainders[best] && keys[i] < keys[best])) best = i;
            }
            (parts[best], remainders[best]) = (parts[best] + 1, 0);
        }
    }
}
