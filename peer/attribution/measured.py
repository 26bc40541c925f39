"""What was measured of an adapter's attribution: the sealed statement, and what follows from it in words."""

from __future__ import annotations

from typing import Protocol

from ...protocol.attribution.faithfulness import Faithfulness, from_ppm, open_measurement
from ...protocol.content.manifests import AdapterManifest
from ...protocol.ids import CHUNK_SIZE, Cid

UNMEASURED = "no measurement is announced of how well scores predict retraining: the prior weights divide"
NO_INDEX = "there is no gradient index: the prior weights divide"
_Z = 1.96


class BlobSource(Protocol):
    """Small blobs."""

    async def get(self, cid: Cid, max_bytes: int) -> bytes:
        """The verified content. Raises NotFound, Unreachable."""
        ...


async def faithfulness_of(content: BlobSource, cid: Cid, manifest: AdapterManifest) -> Faithfulness:
    """What an adapter's author announced. Raises NotFound, Unreachable, RemoteProtocolError,
    InvalidSignature."""
    return open_measurement(await content.get(cid, CHUNK_SIZE), manifest)


def describe_faithfulness(found: Faithfulness) -> str:
    """What was measured, and whether scores divide money by it, in a sentence."""
    reached = found.found
    own = with_interval(reached.lds_ppm, reached.error_ppm)
    chance = with_interval(reached.null_ppm, reached.null_error_ppm)
    told = (
        f"rank correlation with {found.subsets} retrainings {own} on {found.queries} rows; "
        f"of an adapter that learnt wrong answers {chance}"
    )
    return told if found.above_chance else f"{told}: not above chance, so the prior weights divide"


def with_interval(ppm: int, error_ppm: int) -> str:
    """A correlation with its 95 % interval, as people read it."""
    return f"{from_ppm(ppm):+.2f} ± {_Z * error_ppm / 1e6:.2f}"
