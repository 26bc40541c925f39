"""The splits that an adapter made here may have, by the names of the setting `split`."""

from __future__ import annotations

from collections.abc import Mapping

from ...protocol.credits import DEFAULT_SPLIT, OPENLEDGER_SPLIT
from ...protocol.manifests import Split

SPLITS: Mapping[str, Split] = {"default": DEFAULT_SPLIT, "openledger": OPENLEDGER_SPLIT}
