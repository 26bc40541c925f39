// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title What an adapter's manifest says, read from its own bytes: their sha2-256 is the adapter.
/// @notice A manifest is canonical CBOR (RFC 8949): a map of text keys, definite lengths, no tags and no floats. Whatever else
/// the bytes are, nothing is read from them. A key inside a value is not found: values are passed over whole.
library Manifests {
    uint256 private constant BYTES = 2;
    uint256 private constant TEXT = 3;
    uint256 private constant LIST = 4;
    uint256 private constant MAP = 5;
    uint256 private constant SIMPLE = 7;
    bytes32 private constant AUTHOR_PAYEE = keccak256("author_payee");

    error NotManifest();

    /// @notice The account that a manifest names as its author's.
    /// @dev About 600 gas an item before it: a manifest of some thousand contributors fits a transaction.
    function authorPayee(bytes calldata manifest) internal pure returns (address) {
        (uint256 major, uint256 left, uint256 place) = _head(manifest, 0);
        if (major != MAP) revert NotManifest();
        for (; left != 0; --left) {
            uint256 length;
            (major, length, place) = _head(manifest, place);
            if (major != TEXT || length > manifest.length - place) revert NotManifest();
            bool found = keccak256(manifest[place:place + length]) == AUTHOR_PAYEE;
            place += length;
            if (!found) {
                place = _skip(manifest, place);
                continue;
            }
            (major, length, place) = _head(manifest, place);
            if (major != BYTES || length != 20 || manifest.length - place < 20) revert NotManifest();
            return address(bytes20(manifest[place:place + 20]));
        }
        revert NotManifest();
    }

    /// @dev Where the item that begins at `place` ends, with all that it contains.
    function _skip(bytes calldata data, uint256 place) private pure returns (uint256) {
        for (uint256 left = 1; left != 0; --left) {
            (uint256 major, uint256 argument, uint256 next) = _head(data, place);
            place = next;
            if (major == BYTES || major == TEXT) {
                if (argument > data.length - place) revert NotManifest();
                place += argument;
            } else if (major == LIST) {
                left += argument;
            } else if (major == MAP) {
                left += 2 * argument;
            }
        }
        return place;
    }

    /// @dev An item's major type and argument, and where its head ends.
    function _head(bytes calldata data, uint256 place) private pure returns (uint256 major, uint256 argument, uint256 next) {
        if (place >= data.length) revert NotManifest();
        uint256 initial = uint8(data[place]);
        (major, argument, next) = (initial >> 5, initial & 31, place + 1);
        if (major > MAP && major != SIMPLE) revert NotManifest();
        if (argument < 24) return (major, argument, next);
        if (argument > 27 || major == SIMPLE) revert NotManifest();
        uint256 width = uint256(1) << (argument - 24);
        if (width > data.length - next) revert NotManifest();
        argument = 0;
        for (uint256 end = next + width; next < end; ++next) argument = (argument << 8) | uint8(data[next]);
    }
}
