// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice Money with a notice period. `thawing` is the part of `amount` (never more) that may leave from `thawAt` on.
/// @dev Invariant: thawing <= amount. It is what makes a sum that somebody relies on dependable: a part that was
/// announced earlier and then spent cannot be announced "in stock" for money that arrives later.
struct Fund {
    uint128 amount;
    uint128 thawing;
    uint64 thawAt;
}

/// @title One mechanism for everything that thaws: an owner's balance and a channel's reservation.
library Funds {
    error ThawExceedsFund(uint128 wanted, uint128 held);
    error NothingThaws();
    error StillThawing(uint64 until);

    function add(Fund storage fund, uint128 amount) internal {
        fund.amount += amount;
    }

    /// @dev The caller has checked that the fund holds `amount`; the subtraction is checked again by the compiler.
    function take(Fund storage fund, uint128 amount) internal {
        uint128 left = fund.amount - amount;
        // The solid part goes first: what is left thaws only as far as it is still there.
        (fund.amount, fund.thawing) = (left, fund.thawing < left ? fund.thawing : left);
    }

    /// @dev Announces (or re-announces, from the beginning of the period) that `amount` shall leave. 0 withdraws the notice.
    function thaw(Fund storage fund, uint128 amount, uint64 period) internal {
        if (amount > fund.amount) revert ThawExceedsFund(amount, fund.amount);
        fund.thawing = amount;
        fund.thawAt = uint64(block.timestamp) + period;
    }

    /// @dev Takes out what has thawed.
    function release(Fund storage fund) internal returns (uint128 amount) {
        amount = fund.thawing;
        if (amount == 0) revert NothingThaws();
        if (block.timestamp < fund.thawAt) revert StillThawing(fund.thawAt);
        fund.thawing = 0;
        fund.amount -= amount;
    }
}
