"""Writes merkle.json, credits.json, settlement.json and sampler.json beside this file: `python
tests/vectors/generate.py`.

Vectors pin what other implementations (Solidity, the vectorised sampler) must reproduce. Numbers beyond 2^53
are decimal strings, bytes are hexadecimal, floats are `float.hex`. A change of a committed vector is a change
of the protocol.
"""

import json
from decimal import Decimal, localcontext
from itertools import product
from pathlib import Path

import numpy as np

from commonlore.protocol.content.compositions import AdapterWeight
from commonlore.protocol.content.manifests import Split
from commonlore.protocol.content.splits import BASE_SPLIT, DEFAULT_SPLIT, OPENLEDGER_SPLIT
from commonlore.protocol.encoding.codec import encode
from commonlore.protocol.encoding.merkle import MerkleSumTree, MerkleTree
from commonlore.protocol.gossip.adverts import Rates
from commonlore.protocol.ids import Address, cid_of, keccak256
from commonlore.protocol.inference.sampler import compute_scores, key_of, philox, sample
from commonlore.protocol.receipts.credits import (
    RolePayees,
    apportion,
    compute_credits,
    compute_price,
    compute_shares,
)
from commonlore.protocol.receipts.outputs import output_root
from commonlore.protocol.receipts.records import Receipt, Weight
from commonlore.protocol.receipts.rules import make_voucher
from commonlore.protocol.requests.records import Sampling
from commonlore.protocol.settlement.commitments import Claim, EpochTrees, build_epoch, commitment_hash
from commonlore.protocol.settlement.epoch_leaves import (
    Line,
    PoolCredit,
    credit_leaf,
    earnings_leaf,
    line_leaf,
)
from commonlore.protocol.settlement.settled import SettledReceipt, fold_earnings, pool_credits, receipt_leaf
from commonlore.protocol.signing.eip712 import Domain, digest, sign
from commonlore.protocol.signing.keys import AccountKey

HERE = Path(__file__).parent
AMOUNTS = [5, 0, 10**18, 1, 1 << 64, 7, 123456789, 42, 3, 2, 1]


def leaf(i: int) -> bytes:
    return keccak256(b"\x00" + b"leaf %d" % i)


def plain_case(count: int) -> dict:
    leaves = [leaf(i) for i in range(count)]
    tree = MerkleTree(leaves)
    proofs = [[sibling.hex() for sibling in tree.proof(i)] for i in range(count)]
    return {"leaves": [x.hex() for x in leaves], "root": tree.root.hex(), "proofs": proofs}


def sum_node(node: tuple[bytes, int]) -> dict:
    return {"hash": node[0].hex(), "amount": str(node[1])}


def sum_case(count: int) -> dict:
    leaves = [(leaf(i), AMOUNTS[i]) for i in range(count)]
    tree = MerkleSumTree(leaves)
    proofs = [[sum_node(sibling) for sibling in tree.proof(i)] for i in range(count)]
    root = {"root": tree.root.hex(), "total": str(tree.total)}
    return {"leaves": [sum_node(x) for x in leaves], **root, "proofs": proofs}


def merkle() -> dict:
    return {
        "plain": [plain_case(n) for n in (0, 1, 2, 3, 4, 5, 8, 11)],
        "sum": [sum_case(n) for n in (0, 1, 2, 3, 5, 8, 11)],
    }


def apportion_case(total: int, weights: list[int], keys: list[bytes]) -> dict:
    parts = apportion(total, weights, keys)
    return {
        "total": str(total),
        "weights": [str(weight) for weight in weights],
        "keys": [key.hex() for key in keys],
        "parts": [str(part) for part in parts],
    }


def shares_case(price: int, split: Split) -> dict:
    bps = [split.platform, split.worker, split.author, split.work_pool, split.contributors]
    shares = compute_shares(price, split)
    parts = [shares.platform, shares.worker, shares.author, shares.work_pool, shares.contributors]
    return {"price": str(price), "split": bps, "shares": [str(part) for part in parts]}


def price_case(rates: tuple[int, int, int], prompt: int, output: int, step: int) -> dict:
    price = compute_price(Rates(*rates), prompt, output, step=step)
    counts = {"prompt_tokens": prompt, "output_tokens": output, "step": step}
    return {"rates": [str(rate) for rate in rates], **counts, "price": str(price)}


def credits() -> dict:
    abc = [b"\xcc" * 20, b"\xaa" * 20, b"\xbb" * 20]
    odd = Split(1, 3333, 3333, 3333, 0)
    prices = (0, 1, 2, 3, 7, 99, 101, 9_999, 10_001, 10**18 + 1, 2**128 - 1)
    splits = (DEFAULT_SPLIT, OPENLEDGER_SPLIT, BASE_SPLIT, odd)
    return {
        "apportion": [
            apportion_case(2, [1, 1, 1], abc),
            apportion_case(10, [1, 1, 1], abc),
            apportion_case(1_000_000, [7, 11, 13], abc),
            apportion_case(100, [0, 1, 2], abc),
            apportion_case(2**128 - 1, [2**64, 3, 5], abc),
            apportion_case(0, [0, 0, 0], abc),
        ],
        "shares": [shares_case(price, split) for split in splits for price in prices],
        "price": [
            price_case((0, 0, 0), 10, 10, 0),
            price_case((1000, 2000, 5), 10, 3, 0),
            price_case((1000, 2000, 5), 0, 3, 1),
            price_case((333, 777, 1), 1, 1, 0),
            price_case((333, 777, 1), 0, 1, 2),
            price_case((10**18, 3 * 10**18, 10**15), 1234, 567, 0),
        ],
    }


def philox_case(counter: tuple[int, ...], key: tuple[int, int]) -> dict:
    words = philox(tuple(np.array([word], np.uint32) for word in counter), key)
    return {"counter": list(counter), "key": list(key), "words": [int(word[0]) for word in words]}


def noise_case(seed: int, position: int, token: int) -> dict:
    """The Gumbel value correctly rounded, from 60 decimal digits."""
    word = philox_case((position, token, 0, 0), key_of(seed))["words"][0]
    with localcontext() as context:
        context.prec = 60
        gumbel = float(-(-((Decimal(2 * word + 1) / Decimal(2**33)).ln())).ln())
    place = {"seed": str(seed), "position": position, "token": token}
    return {**place, "key": list(key_of(seed)), "word": word, "gumbel": gumbel.hex()}


def choice_case(logits: list[float], settings: dict, position: int, history: list[int]) -> dict:
    """Fails where the choice is so close that another platform's logarithm might decide otherwise."""
    sampling = Sampling(**settings)
    scores = compute_scores(logits, sampling, position, history)
    best = np.sort(scores.values)[-2:]
    assert not sampling.temperature_ppm or len(best) == 1 or best[1] - best[0] > 1e-6
    where = {"logits": logits, "sampling": settings, "position": position, "history": history}
    return {**where, "survivors": scores.ids.tolist(), "token": sample(logits, sampling, position, history)}


def some_logits(seed: int, count: int = 24) -> list[float]:
    """Multiples of 1/64, exact in float32 and in JSON."""
    return (
        (np.random.default_rng(seed).normal(0, 3, count) * 64).round().astype(float).__truediv__(64).tolist()
    )


def choices() -> list[dict]:
    settings = [
        {"temperature_ppm": temperature, "top_k": top_k, "top_p_ppm": top_p, "min_p_ppm": min_p}
        for temperature, top_k, top_p, min_p in product(
            (500_000, 1_000_000, 1_700_000), (0, 5), (1_000_000, 850_000), (0, 60_000)
        )
    ]
    cases = [
        choice_case(
            some_logits(n),
            {"seed": 2**63 + n, "max_tokens": 8, "repetition_penalty_ppm": penalty, **setting},
            n,
            [3, 5, 3],
        )
        for n, (setting, penalty) in enumerate(product(settings, (1_000_000, 1_300_000)))
    ]
    return cases + [choice_case(*case) for case in edge_choices()]


def edge_choices() -> list[tuple[list[float], dict, int, list[int]]]:
    warm = {"seed": 5, "max_tokens": 8, "temperature_ppm": 1_000_000}
    greedy = {"seed": 5, "max_tokens": 8}
    equal = [1.5] * 8
    return [
        (equal, greedy, 0, []),
        ([1.0, 2.0, 2.0, -1.0], greedy, 3, []),
        ([1.0, 2.0, 2.0, -1.0], {**greedy, "repetition_penalty_ppm": 2_500_000}, 3, [1, 2, 3]),
        ([-1.0, -2.0, -0.5], {**greedy, "repetition_penalty_ppm": 4_000_000}, 3, [2, 2, 2]),
        (equal, {**warm, "top_k": 3}, 1, []),
        (equal, {**warm, "top_p_ppm": 500_000}, 1, []),
        (equal, {**warm, "top_p_ppm": 500_001}, 1, []),
        (equal, {**warm, "top_p_ppm": 1}, 1, []),
        (equal, {**warm, "top_k": 6, "top_p_ppm": 500_000}, 1, []),
        (equal, {**warm, "min_p_ppm": 1_000_000}, 2, []),
        (some_logits(99), {**warm, "top_k": 1}, 9, []),
        (some_logits(99), {**warm, "top_k": 1000}, 9, []),
        (some_logits(98), {**warm, "seed": 0}, 0, []),
        (some_logits(98), {**warm, "seed": 2**64 - 1}, 2**32 - 1, []),
    ]


def sampler() -> dict:
    ones = 0xFFFFFFFF
    pi = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
    places = [*product((0, 1, 7, 2**63 + 11), (0, 1, 511), (0, 1, 49_151)), (2**64 - 1, 2**32 - 1, 2**32 - 1)]
    return {
        "philox": [
            philox_case((0, 0, 0, 0), (0, 0)),
            philox_case((ones,) * 4, (ones, ones)),
            philox_case(pi, (0xA4093822, 0x299F31D0)),
        ],
        "noise": [noise_case(*place) for place in places],
        "choices": choices(),
    }


DOMAIN = Domain(31_337, Address(b"\xe5" * 20))
LANE_KEY = AccountKey.from_secret(b"\x07" * 32)
PAYER = AccountKey.from_secret(b"\x02" * 32)
PLACE = {"chain_id": DOMAIN.chain_id, "escrow": DOMAIN.escrow.hex()}
ROLES = RolePayees(*(Address(bytes([n]) * 20) for n in (1, 2, 3, 4)))
WEIGHTS = [Weight(Address(b"\xaa" * 20), 300_000), Weight(Address(b"\xbb" * 20), 700_000)]


def settled_receipts(prices: tuple[int, ...], epoch: int) -> list[SettledReceipt]:
    """A channel's receipts of these prices, as PAYER paid them to LANE_KEY."""
    settled: list[SettledReceipt] = []
    previous = None
    for seq, price in enumerate(prices, 1):
        receipt = Receipt(
            request_hash=bytes([seq]) * 32,
            payer=PAYER.address,
            lane=LANE_KEY.address,
            seq=seq,
            epoch=epoch,
            step=0,
            artefact=cid_of(b"artefact"),
            adapters=(AdapterWeight(cid_of(b"adapter"), 1_000_000),),
            prompt_tokens=12,
            output_tokens=40,
            output_root=output_root(range(40)),
            price=price,
            shares=compute_shares(price, DEFAULT_SPLIT),
            details=bytes(32),
        )
        previous = make_voucher(DOMAIN, PAYER, receipt, previous)
        credits = compute_credits(receipt, ROLES, WEIGHTS)
        signature = sign(DOMAIN, LANE_KEY, receipt)
        settled.append(
            SettledReceipt(receipt, signature, previous.voucher, previous.signature, (ROLES.author,), credits)
        )
    return settled


def leaf_case(settled: SettledReceipt) -> dict:
    node = receipt_leaf(DOMAIN, settled)
    parts = {
        "settled_receipt": encode(settled),
        "receipt_id": settled.receipt_id,
        "receipt_digest": digest(DOMAIN, settled.receipt),
        "voucher_digest": digest(DOMAIN, settled.voucher),
        "signature_hash": keccak256(settled.voucher_signature),
        "leaf": node.hash,
    }
    return {**PLACE, **{name: part.hex() for name, part in parts.items()}, "amount": str(node.amount)}


def earnings_case(account: bytes, cumulative: int) -> dict:
    node = earnings_leaf(Address(account), cumulative)
    return {"account": account.hex(), "cumulative": str(cumulative), "leaf": node.hash.hex()}


def line_case(line: Line) -> dict:
    place = {"author": line.author.hex(), "adapter": line.adapter.hex(), "pool": line.pool.hex()}
    totals = [str(total) for total in line.totals]
    rest = {"receipt_id": line.receipt_id.hex(), "totals": totals, "price": str(line.price)}
    return {**place, **rest, "leaf": line_leaf(line).hash.hex()}


def credit_case(credit: PoolCredit) -> dict:
    place = {"pool": credit.pool.hex(), "role": credit.role, "account": credit.account.hex()}
    return {**place, "amount": str(credit.amount), "leaf": credit_leaf(credit).hash.hex()}


def epoch_case(trees: EpochTrees) -> dict:
    made = trees.commitment
    struct = {
        "epoch": made.epoch,
        "receiptRoot": made.receipt_root.hex(),
        "earningsRoot": made.earnings_root.hex(),
        "receiptSum": str(made.receipt_sum),
        "cumulativeTotal": str(made.cumulative_total),
        "receiptCount": made.receipt_count,
        "accountCount": made.account_count,
        "dataHash": made.data_hash.hex(),
        "lineRoot": made.line_root.hex(),
        "accountCreditRoot": made.account_credit_root.hex(),
        "poolCreditRoot": made.pool_credit_root.hex(),
        "creditCount": made.credit_count,
        "lineCount": made.line_count,
    }
    claims = [claim_case(claim) for claim in trees.claims()]
    given = {**PLACE, "data": trees.data.hex()}
    return {**given, "commitment": struct, "hash": commitment_hash(made).hex(), "claims": claims}


def claim_case(claim: Claim) -> dict:
    path = [{"hash": node.hash.hex(), "sum": str(node.amount)} for node in claim.path]
    account = {"account": claim.account.hex(), "cumulative": str(claim.cumulative)}
    return {**account, "index": claim.index, "path": path}


def settlement() -> dict:
    receipts = settled_receipts((97, 10**18, 1), epoch=3)
    credits = pool_credits(receipts)
    earned = fold_earnings({}, credits)
    second = build_epoch(DOMAIN, 5, (), earned, credits)
    return {
        "leaves": [leaf_case(settled) for settled in receipts],
        "earnings": [earnings_case(b"\xaa" * 20, 1), earnings_case(bytes(20), 2**128 - 1)],
        "epochs": [
            epoch_case(build_epoch(DOMAIN, 0, (), {})),
            epoch_case(build_epoch(DOMAIN, 3, receipts, {})),
            epoch_case(build_epoch(DOMAIN, 4, (), {Address(b"\xaa" * 20): 5})),
            epoch_case(second),
        ],
        "lines": [line_case(line) for line in build_epoch(DOMAIN, 3, receipts, {}).lines],
        "credits": [credit_case(credit) for credit in second.account_credits],
    }


def write(name: str, content: dict) -> None:
    """One case a line, so that a change is a readable diff."""
    sections = [
        json.dumps(key) + ": [\n" + ",\n".join("  " + json.dumps(case) for case in cases) + "\n]"
        for key, cases in content.items()
    ]
    (HERE / name).write_text("{\n" + ",\n".join(sections) + "\n}\n")


if __name__ == "__main__":
    write("merkle.json", merkle())
    write("credits.json", credits())
    write("sampler.json", sampler())
    write("settlement.json", settlement())
