"""What a drawn attributor says in 32 bytes, so that two honest ones say the same.

Rules of this file:

- From the int8 query vector on everything is integers, but two machines may round the vector differently, and
  then weights differ by a little. The chain compares bytes. So an attributor names the weights that were
  *paid* where its own lie within `TOLERANCE_PPM` of them, and its own otherwise: whoever finds the payment
  right says the same 32 bytes as everybody else who does, and a contradiction is one beyond the tolerance.
- The paid weights are those that the next commitment's published statements give, by `pool_evidence`.
- Who judges a contradiction scores again. A word is wrong where the weights that it names lie more than twice
  the tolerance from what the judge found: two who are honest, at either side of the edge, both stand.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..ids import keccak256
from ..receipts.records import Weight
from .pools import TOLERANCE_PPM, total_variation_ppm

_DOMAIN = b"commonlore/weights/1"


def weights_digest(weights: Sequence[Weight]) -> bytes:
    """keccak256(domain ‖ account ‖ ppm (4 bytes), ascending by account) of weights that are not zero."""
    named = sorted((weight.payee, weight.ppm) for weight in weights if weight.ppm)
    return keccak256(_DOMAIN + b"".join(payee + ppm.to_bytes(4, "big") for payee, ppm in named))


def attribution_verdict(paid: Sequence[Weight], own: Sequence[Weight]) -> bytes:
    """The 32 bytes by which an attributor with these weights of its own judges those that were paid."""
    agrees = total_variation_ppm(paid, own) <= TOLERANCE_PPM
    return weights_digest(paid if agrees else own)


def is_wrong(named: Sequence[Weight], found: Sequence[Weight]) -> bool:
    """Whether a judge who found these weights rules against a word that names those."""
    return total_variation_ppm(named, found) > 2 * TOLERANCE_PPM
