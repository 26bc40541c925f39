"""The pinned sampler's noise for many ids at once: compiled where this machine can, the same bits everywhere.

Rules of this file:
- Only Philox's integers are computed elsewhere; what follows from them is the specification's own
  (`protocol.inference.sampler`). In numpy the noise of 49,152 ids takes as long as a step of a small model.
"""

from __future__ import annotations

import ctypes
import logging
from functools import cache
from pathlib import Path

import numpy as np

from ....protocol.inference import sampler as reference
from ....protocol.inference.sampler import Floats, Ids
from ..native.library import Unavailable, load_compiled

log = logging.getLogger("commonlore.worker.engine")
_FEW = 256
"""Ids up to which numpy is as fast."""


def gumbel(seed: int, position: int, ids: Ids) -> Floats:
    """Rule 5 of the specification: the noise of each id, int64."""
    library = load_noise() if len(ids) > _FEW else None
    if library is None:
        return reference.gumbel(seed, position, ids)
    key0, key1 = reference.key_of(seed)
    ids, words = np.ascontiguousarray(ids, np.int64), np.empty(len(ids), np.uint32)
    library.commonlore_philox(key0, key1, position, ids.ctypes.data, len(ids), words.ctypes.data)
    return reference.gumbel_of(words)


@cache
def load_noise() -> ctypes.CDLL | None:
    """The compiled code; None where there can be none. An engine does this at its start: the first time takes
    a second.
    """
    try:
        library = load_compiled([Path(__file__).parents[1] / "native" / "noise.cpp"])
    except Unavailable as reason:
        log.info("the sampler's noise is computed with numpy: %s", reason)
        return None
    library.commonlore_philox.argtypes = (
        *(ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32),
        *(ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p),
    )
    library.commonlore_philox.restype = None
    return library
