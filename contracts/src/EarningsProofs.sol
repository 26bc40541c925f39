// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Challenge} from "./Challenge.sol";
import {Commitment} from "./Commitment.sol";
import {EarningsLeaf, Leaves} from "./Leaves.sol";
import {Settlement} from "./Settlement.sol";
import {Span, Spans} from "./Spans.sol";

/// @title Frauds in a commitment's cumulative earnings.
/// @notice Together they say: accounts are sorted, and each has what it had in the commitment before plus its credits.
contract EarningsProofs is Challenge {
    constructor(Settlement settlement_) Challenge(settlement_) {}

    /// @notice Two neighbours whose accounts do not ascend.
    function proveUnsorted(
        address lane,
        Commitment calldata commitment,
        EarningsLeaf calldata a,
        EarningsLeaf calldata b
    ) external {
        Leaves.requireEarnings(commitment, a);
        Leaves.requireEarnings(commitment, b);
        _requireFraud(uint256(a.index) + 1 == b.index && b.account <= a.account);
        _kill(lane, commitment, "accounts unsorted");
    }

    /// @notice An account has earned less than in the commitment before.
    function proveDecrease(
        address lane,
        Commitment calldata previous,
        EarningsLeaf calldata before,
        Commitment calldata commitment,
        EarningsLeaf calldata now_
    ) external {
        _requirePrevious(lane, previous, commitment);
        Leaves.requireEarnings(previous, before);
        Leaves.requireEarnings(commitment, now_);
        _requireFraud(before.account == now_.account && now_.cumulative < before.cumulative);
        _kill(lane, commitment, "earnings decreased");
    }

    /// @notice An account of the commitment before is gone. One that had nothing may go.
    function proveDropped(
        address lane,
        Commitment calldata previous,
        EarningsLeaf calldata before,
        Commitment calldata commitment,
        EarningsLeaf[] calldata gap
    ) external {
        _requirePrevious(lane, previous, commitment);
        Leaves.requireEarnings(previous, before);
        _requireFraud(before.cumulative != 0 && _earned(commitment, before.account, gap) == 0);
        _kill(lane, commitment, "account dropped");
    }

    /// @notice What an account has is not what it had plus its credits.
    /// @param before its leaf in the commitment before, or the gap there
    /// @param now_ its leaf, or the gap
    /// @param credits its credits, in the order by account
    function proveWrongCumulative(
        address lane,
        Commitment calldata previous,
        Commitment calldata commitment,
        address account,
        EarningsLeaf[] calldata before,
        EarningsLeaf[] calldata now_,
        Span calldata credits
    ) external {
        _requirePrevious(lane, previous, commitment);
        uint256 had = _earned(previous, account, before);
        uint256 has = _earned(commitment, account, now_);
        _requireFraud(has != had + Spans.sumOfAccount(previous, commitment, account, credits));
        _kill(lane, commitment, "earnings are not the credits");
    }

    /// @dev What an account has: its leaf's amount, or 0 where `proof` is the gap in which it would stand.
    function _earned(Commitment calldata commitment, address account, EarningsLeaf[] calldata proof)
        private
        pure
        returns (uint128)
    {
        for (uint256 i; i < proof.length; ++i) Leaves.requireEarnings(commitment, proof[i]);
        uint32 count = commitment.accountCount;
        bool gap;
        if (proof.length == 0) gap = count == 0;
        if (proof.length == 1) {
            if (proof[0].account == account) return proof[0].cumulative;
            bool left = proof[0].account < account;
            gap = Leaves.isGap(left, proof[0].index, !left, proof[0].index, count);
        }
        if (proof.length == 2) {
            gap = proof[0].account < account && account < proof[1].account
                && Leaves.isGap(true, proof[0].index, true, proof[1].index, count);
        }
        _requireFraud(gap);
        return 0;
    }
}
