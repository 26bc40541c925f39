// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Commitment} from "./Commitment.sol";
import {Escrow} from "./Escrow.sol";
import {MerkleSum} from "./MerkleSum.sol";

struct AdapterWeight {
    bytes32 adapter;
    uint32 weightPpm;
}

struct Shares {
    uint128 platform;
    uint128 worker;
    uint128 author;
    uint128 workPool;
    uint128 contributors;
}

/// @notice Signed by the lane's key, and named by the payer's voucher (EIP-712).
struct Receipt {
    bytes32 requestHash;
    address payer;
    address lane;
    uint64 seq;
    uint64 epoch;
    uint32 step;
    bytes32 artefact;
    AdapterWeight[] adapters;
    uint32 promptTokens;
    uint32 outputTokens;
    bytes32 outputRoot;
    uint128 price;
    Shares shares;
    bytes32 details;
}

/// @notice A leaf of a receipt tree by its four hashes.
struct ReceiptLeaf {
    bytes32 id;
    bytes32 receiptDigest;
    bytes32 voucherDigest;
    bytes32 signatureHash;
    uint128 price;
    uint32 index;
    MerkleSum.Step[] path;
}

/// @notice A leaf of a receipt tree with its voucher.
struct VoucherLeaf {
    bytes32 id;
    bytes32 receiptDigest;
    Escrow.Voucher voucher;
    bytes32 signatureHash;
    uint128 price;
    uint32 index;
    MerkleSum.Step[] path;
}

/// @notice A leaf of a receipt tree with all that its hashes are of.
struct ReceiptOpening {
    bytes32 id;
    Receipt receipt;
    Escrow.Voucher voucher;
    bytes signature;
    uint128 price;
    uint32 index;
    MerkleSum.Step[] path;
}

/// @notice What of a receipt one adapter's pool has (see Parts): `totals` are the pool's role shares up to and including it,
/// `price` is what its own add up to.
struct LineLeaf {
    address author;
    bytes32 adapter;
    bytes32 receiptId;
    uint128[5] totals;
    uint128 price;
    uint32 index;
    MerkleSum.Step[] path;
}

struct EarningsLeaf {
    address account;
    uint128 cumulative;
    uint32 index;
    MerkleSum.Step[] path;
}

/// @notice What an account earns in a pool in a role.
struct CreditLeaf {
    bytes32 pool;
    uint8 role;
    address account;
    uint128 amount;
    uint32 index;
    MerkleSum.Step[] path;
}

/// @title What the leaves of a commitment's trees are, and whether they are in them.
library Leaves {
    bytes32 internal constant SHARES_TYPEHASH = keccak256(
        "Shares(uint128 platform,uint128 worker,uint128 author,uint128 workPool,uint128 contributors)"
    );
    bytes32 internal constant WEIGHT_TYPEHASH = keccak256("AdapterWeight(bytes32 adapter,uint32 weightPpm)");
    bytes32 internal constant RECEIPT_TYPEHASH = keccak256(
        "Receipt(bytes32 requestHash,address payer,address lane,uint64 seq,uint64 epoch,uint32 step,bytes32 artefact,"
        "AdapterWeight[] adapters,uint32 promptTokens,uint32 outputTokens,bytes32 outputRoot,uint128 price,Shares shares,"
        "bytes32 details)AdapterWeight(bytes32 adapter,uint32 weightPpm)"
        "Shares(uint128 platform,uint128 worker,uint128 author,uint128 workPool,uint128 contributors)"
    );

    // ---- hashes ---------------------------------------------------------------------------------------------------

    function receiptLeaf(bytes32 id, bytes32 receiptDigest, bytes32 voucherDigest, bytes32 signatureHash)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encodePacked(bytes1(0x00), id, receiptDigest, voucherDigest, signatureHash));
    }

    function earningsLeaf(address account, uint128 cumulative) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0x00), account, cumulative));
    }

    function lineLeaf(LineLeaf calldata line) internal pure returns (bytes32) {
        uint128[5] calldata t = line.totals;
        bytes memory totals = abi.encodePacked(t[0], t[1], t[2], t[3], t[4]);
        return keccak256(
            abi.encodePacked(bytes1(0x00), line.author, line.adapter, line.receiptId, totals, line.price)
        );
    }

    function creditLeaf(CreditLeaf calldata credit) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(bytes1(0x00), credit.pool, credit.role, credit.account, credit.amount));
    }

    /// @notice An adapter's record id in the Registry; zero for answers without an adapter.
    function poolOf(LineLeaf calldata line) internal pure returns (bytes32) {
        return line.adapter == 0 ? bytes32(0) : keccak256(abi.encode(line.author, line.adapter));
    }

    /// @notice The one name of the receipt that voucher `seq` of a channel pays.
    function receiptId(address payer, address lane, uint64 seq) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(payer, lane, seq));
    }

    /// @notice EIP-712 struct hash of a receipt.
    function receiptStructHash(Receipt calldata receipt) internal pure returns (bytes32) {
        bytes memory head = abi.encode(
            RECEIPT_TYPEHASH,
            receipt.requestHash,
            receipt.payer,
            receipt.lane,
            receipt.seq,
            receipt.epoch,
            receipt.step,
            receipt.artefact,
            _weightsHash(receipt.adapters)
        );
        bytes memory tail = abi.encode(
            receipt.promptTokens,
            receipt.outputTokens,
            receipt.outputRoot,
            receipt.price,
            keccak256(abi.encode(SHARES_TYPEHASH, receipt.shares)),
            receipt.details
        );
        return keccak256(bytes.concat(head, tail));
    }

    function _weightsHash(AdapterWeight[] calldata weights) private pure returns (bytes32) {
        bytes32[] memory hashes = new bytes32[](weights.length);
        for (uint256 i; i < weights.length; ++i) hashes[i] = keccak256(abi.encode(WEIGHT_TYPEHASH, weights[i]));
        return keccak256(abi.encodePacked(hashes));
    }

    // ---- membership -----------------------------------------------------------------------------------------------

    function requireReceipt(Commitment calldata commitment, ReceiptLeaf calldata leaf) internal pure {
        bytes32 hash = receiptLeaf(leaf.id, leaf.receiptDigest, leaf.voucherDigest, leaf.signatureHash);
        _requireReceipt(commitment, hash, leaf.price, leaf.index, leaf.path);
    }

    function requireVoucher(Commitment calldata commitment, VoucherLeaf calldata leaf, Escrow escrow) internal view {
        bytes32 hash =
            receiptLeaf(leaf.id, leaf.receiptDigest, escrow.voucherDigest(leaf.voucher), leaf.signatureHash);
        _requireReceipt(commitment, hash, leaf.price, leaf.index, leaf.path);
    }

    /// @return digest the receipt's digest
    /// @return voucherDigest the voucher's
    function requireOpening(Commitment calldata commitment, ReceiptOpening calldata opening, Escrow escrow)
        internal
        view
        returns (bytes32 digest, bytes32 voucherDigest)
    {
        digest = keccak256(
            abi.encodePacked(bytes2(0x1901), escrow.domainSeparator(), receiptStructHash(opening.receipt))
        );
        voucherDigest = escrow.voucherDigest(opening.voucher);
        bytes32 hash = receiptLeaf(opening.id, digest, voucherDigest, keccak256(opening.signature));
        _requireReceipt(commitment, hash, opening.price, opening.index, opening.path);
    }

    function _requireReceipt(
        Commitment calldata commitment,
        bytes32 hash,
        uint128 price,
        uint32 index,
        MerkleSum.Step[] calldata path
    ) private pure {
        requireLeaf(commitment.receiptRoot, commitment.receiptSum, commitment.receiptCount, hash, price, index, path);
    }

    function requireLine(Commitment calldata commitment, LineLeaf calldata line) internal pure {
        requireLeaf(
            commitment.lineRoot,
            commitment.receiptSum,
            commitment.lineCount,
            lineLeaf(line),
            line.price,
            line.index,
            line.path
        );
    }

    function requireEarnings(Commitment calldata commitment, EarningsLeaf calldata leaf) internal pure {
        requireLeaf(
            commitment.earningsRoot,
            commitment.cumulativeTotal,
            commitment.accountCount,
            earningsLeaf(leaf.account, leaf.cumulative),
            leaf.cumulative,
            leaf.index,
            leaf.path
        );
    }

    /// @dev The credits of a commitment are what the receipts of the one before cost.
    function requireCredit(
        Commitment calldata previous,
        Commitment calldata commitment,
        bool byPool,
        CreditLeaf calldata credit
    ) internal pure {
        requireLeaf(
            byPool ? commitment.poolCreditRoot : commitment.accountCreditRoot,
            previous.receiptSum,
            commitment.creditCount,
            creditLeaf(credit),
            credit.amount,
            credit.index,
            credit.path
        );
    }

    function requireLeaf(
        bytes32 root,
        uint128 total,
        uint32 count,
        bytes32 hash,
        uint128 amount,
        uint32 index,
        MerkleSum.Step[] calldata path
    ) internal pure {
        (bytes32 reached, uint128 sum) = MerkleSum.climb(hash, amount, index, count, path);
        if (reached != root || sum != total) revert MerkleSum.BadProof();
    }

    // ---- order ----------------------------------------------------------------------------------------------------

    /// @notice Whether line `a` stands before line `b`: by pool, then by receipt id.
    function lineIsBefore(LineLeaf calldata a, LineLeaf calldata b) internal pure returns (bool) {
        (bytes32 poolA, bytes32 poolB) = (poolOf(a), poolOf(b));
        return poolA < poolB || (poolA == poolB && a.receiptId < b.receiptId);
    }

    /// @notice Whether credit `a` stands before `b`: by (account, pool, role), or by (pool, role, account).
    function creditIsBefore(CreditLeaf calldata a, CreditLeaf calldata b, bool byPool) internal pure returns (bool) {
        if (!byPool && a.account != b.account) return a.account < b.account;
        if (a.pool != b.pool) return a.pool < b.pool;
        if (a.role != b.role) return a.role < b.role;
        return a.account < b.account;
    }

    /// @notice Whether two neighbours close the place between them: (left, right) adjacent, one at its tree's end, none
    /// in an empty tree. The caller has opened both and compares their keys.
    /// @param left whether there is a left neighbour
    /// @param right whether there is a right one
    function isGap(bool left, uint32 leftIndex, bool right, uint32 rightIndex, uint32 count)
        internal
        pure
        returns (bool)
    {
        if (left && right) return uint256(leftIndex) + 1 == rightIndex;
        if (left) return uint256(leftIndex) + 1 == count;
        if (right) return rightIndex == 0;
        return count == 0;
    }
}
