// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Commitment} from "./Commitment.sol";
import {CreditLeaf, Leaves} from "./Leaves.sol";
import {MerkleSum} from "./MerkleSum.sol";

/// @notice Neighbouring credits that have something in common, by their ends. `inside`: the first and the last of them
/// (one, if they are the same; none, if there are none). `outside`: the one just before and the one just after, where they
/// exist.
struct Span {
    CreditLeaf[] outsideBefore;
    CreditLeaf[] inside;
    CreditLeaf[] outsideAfter;
}

/// @title Sums over neighbouring leaves of a sum tree, from the paths of their ends alone.
library Spans {
    error NotSpan();

    /// @notice What an account's credits sum to.
    function sumOfAccount(
        Commitment calldata previous,
        Commitment calldata commitment,
        address account,
        Span calldata span
    ) internal pure returns (uint256) {
        _requireIn(previous, commitment, false, span);
        for (uint256 i; i < span.inside.length; ++i) _require(span.inside[i].account == account);
        if (span.outsideBefore.length == 1) _require(span.outsideBefore[0].account < account);
        if (span.outsideAfter.length == 1) _require(span.outsideAfter[0].account > account);
        return _sum(commitment.creditCount, span);
    }

    /// @notice What the credits of a pool's role sum to.
    function sumOfRole(
        Commitment calldata previous,
        Commitment calldata commitment,
        bytes32 pool,
        uint8 role,
        Span calldata span
    ) internal pure returns (uint256) {
        _requireIn(previous, commitment, true, span);
        for (uint256 i; i < span.inside.length; ++i) {
            _require(span.inside[i].pool == pool && span.inside[i].role == role);
        }
        if (span.outsideBefore.length == 1) {
            CreditLeaf calldata left = span.outsideBefore[0];
            _require(left.pool < pool || (left.pool == pool && left.role < role));
        }
        if (span.outsideAfter.length == 1) {
            CreditLeaf calldata right = span.outsideAfter[0];
            _require(right.pool > pool || (right.pool == pool && right.role > role));
        }
        return _sum(commitment.creditCount, span);
    }

    function _requireIn(Commitment calldata previous, Commitment calldata commitment, bool byPool, Span calldata span)
        private
        pure
    {
        _require(span.outsideBefore.length <= 1 && span.inside.length <= 2 && span.outsideAfter.length <= 1);
        _openAll(previous, commitment, byPool, span.outsideBefore);
        _openAll(previous, commitment, byPool, span.inside);
        _openAll(previous, commitment, byPool, span.outsideAfter);
    }

    function _openAll(
        Commitment calldata previous,
        Commitment calldata commitment,
        bool byPool,
        CreditLeaf[] calldata credits
    ) private pure {
        for (uint256 i; i < credits.length; ++i) Leaves.requireCredit(previous, commitment, byPool, credits[i]);
    }

    /// @dev The ends stand side by side with what is outside, so nothing of the span is left out.
    function _sum(uint32 count, Span calldata span) private pure returns (uint256) {
        bool left = span.outsideBefore.length == 1;
        bool right = span.outsideAfter.length == 1;
        uint32 leftIndex = left ? span.outsideBefore[0].index : 0;
        uint32 rightIndex = right ? span.outsideAfter[0].index : 0;
        if (span.inside.length == 0) {
            _require(Leaves.isGap(left, leftIndex, right, rightIndex, count));
            return 0;
        }
        CreditLeaf calldata first = span.inside[0];
        CreditLeaf calldata last = span.inside[span.inside.length - 1];
        _require(first.index <= last.index);
        _require(first.index == (left ? uint256(leftIndex) + 1 : 0));
        _require(uint256(last.index) + 1 == (right ? rightIndex : count));
        return uint256(MerkleSum.sumBefore(last.index, last.path)) + last.amount
            - MerkleSum.sumBefore(first.index, first.path);
    }

    function _require(bool condition) private pure {
        if (!condition) revert NotSpan();
    }
}
