// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Challenge} from "./Challenge.sol";
import {Commitment} from "./Commitment.sol";
import {Escrow} from "./Escrow.sol";
import {Leaves, Receipt, ReceiptLeaf, ReceiptOpening, Shares, VoucherLeaf} from "./Leaves.sol";
import {Parts} from "./Parts.sol";
import {Settlement} from "./Settlement.sol";

/// @title Frauds that a commitment's receipts show by themselves.
/// @notice Together they say: receipts are sorted by id, each is what its payer signed for this lane and no later than this
/// epoch, its adapters make a whole, and no unit of a channel's redeemed money is counted twice. As the receipts also sum to what was redeemed, every
/// redeemed unit then belongs to exactly one receipt.
contract ReceiptProofs is Challenge {
    constructor(Settlement settlement_) Challenge(settlement_) {}

    /// @notice Two neighbours whose ids do not ascend: a duplicate, or a wrong order that would hide one.
    function proveUnsorted(address lane, Commitment calldata commitment, ReceiptLeaf calldata a, ReceiptLeaf calldata b)
        external
    {
        Leaves.requireReceipt(commitment, a);
        Leaves.requireReceipt(commitment, b);
        _requireFraud(uint256(a.index) + 1 == b.index && b.id <= a.id);
        _kill(lane, commitment, "receipts unsorted");
    }

    /// @notice A receipt that is not what its payer signed for this lane and epoch.
    function proveBadReceipt(address lane, Commitment calldata commitment, ReceiptOpening calldata opening) external {
        Escrow escrow = _escrow();
        (bytes32 digest, bytes32 voucherDigest) = Leaves.requireOpening(commitment, opening, escrow);
        bool fraud = _isMisplaced(lane, commitment, opening) || _isUnnamed(digest, opening)
            || _isIllPriced(opening.receipt, opening.price) || !Parts.areWhole(opening.receipt.adapters)
            || opening.voucher.cumulative > escrow.redeemed(opening.voucher.payer, lane)
            || !_isSigned(voucherDigest, opening);
        _requireFraud(fraud);
        _kill(lane, commitment, "bad receipt");
    }

    /// @notice The same money of a channel counted for two receipts, in one commitment or in two of the lane.
    /// @param earlier this commitment, or one before it that stands
    function proveOverlap(
        address lane,
        Commitment calldata commitment,
        VoucherLeaf calldata a,
        Commitment calldata earlier,
        VoucherLeaf calldata b
    ) external {
        Escrow escrow = _escrow();
        _requireStands(lane, commitment, earlier);
        Leaves.requireVoucher(commitment, a, escrow);
        Leaves.requireVoucher(earlier, b, escrow);
        bool distinct = earlier.epoch != commitment.epoch || a.index != b.index;
        bool sameChannel = a.voucher.payer == b.voucher.payer && a.voucher.lane == b.voucher.lane;
        // Money from `cumulative - price` up to `cumulative`; a voucher below its price is a bad receipt, and reverts here.
        bool overlap = a.voucher.cumulative > b.voucher.cumulative - b.voucher.price
            && b.voucher.cumulative > a.voucher.cumulative - a.voucher.price;
        _requireFraud(distinct && sameChannel && overlap);
        _kill(lane, commitment, "money counted twice");
    }

    function _requireStands(address lane, Commitment calldata commitment, Commitment calldata earlier) private view {
        (bytes32 hash,,,,) = settlement.posted(lane, earlier.epoch);
        if (earlier.epoch > commitment.epoch || hash != settlement.commitmentHash(earlier)) {
            revert NotPrevious(earlier.epoch, commitment.epoch);
        }
    }

    function _isMisplaced(address lane, Commitment calldata commitment, ReceiptOpening calldata opening)
        private
        pure
        returns (bool)
    {
        Receipt calldata receipt = opening.receipt;
        return receipt.lane != lane || receipt.epoch > commitment.epoch
            || opening.id != Leaves.receiptId(receipt.payer, receipt.lane, receipt.seq);
    }

    /// @dev Whether the voucher fails to name the receipt.
    function _isUnnamed(bytes32 digest, ReceiptOpening calldata opening) private pure returns (bool) {
        Receipt calldata receipt = opening.receipt;
        Escrow.Voucher calldata voucher = opening.voucher;
        return voucher.receiptHash != digest || voucher.payer != receipt.payer || voucher.lane != receipt.lane
            || voucher.seq != receipt.seq || voucher.epoch != receipt.epoch || voucher.price != receipt.price
            || voucher.cumulative < voucher.price;
    }

    function _isIllPriced(Receipt calldata receipt, uint128 amount) private pure returns (bool) {
        Shares calldata shares = receipt.shares;
        uint256 sum =
            uint256(shares.platform) + shares.worker + shares.author + shares.workPool + shares.contributors;
        bool astray = receipt.adapters.length == 0 && (shares.author != 0 || shares.contributors != 0);
        return amount == 0 || amount != receipt.price || sum != receipt.price || astray;
    }

    function _isSigned(bytes32 voucherDigest, ReceiptOpening calldata opening) private pure returns (bool) {
        (address signer, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(voucherDigest, opening.signature);
        return failure == ECDSA.RecoverError.NoError && signer == opening.receipt.payer;
    }
}
