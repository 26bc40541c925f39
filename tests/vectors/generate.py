"""Writes merkle.json, credits.json, settlement.json and sampler.json beside this file: `python
tests/vectors/generate.py`.

Vectors pin what other implementations (Solidity, the vectorised sampler) must reproduce. Numbers beyond 2^53
are decimal strings, bytes are hexadecimal, floats are `float.hex`. A change of a committed vector is a change
of the protocol.
"""

import json
from pathlib import Path

from commonlore.protocol.adverts import Rates
from commonlore.protocol.credits import (
    BASE_SPLIT,
    DEFAULT_SPLIT,
    OPENLEDGER_SPLIT,
    apportion,
    compute_price,
    compute_shares,
)
from commonlore.protocol.ids import keccak256
from commonlore.protocol.manifests import Split
from commonlore.protocol.merkle import MerkleSumTree, MerkleTree

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
