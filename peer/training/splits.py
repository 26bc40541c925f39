"""The splits that an adapter made here may have, by the names of the setting `split`."""

from __future__ import annotations

from collections.abc import Mapping

from ...protocol.content.manifests import Split
from ...protocol.content.splits import DEFAULT_SPLIT, OPENLEDGER_SPLIT

SPLITS: Mapping[str, Split] = {"default": DEFAULT_SPLIT, "openledger": OPENLEDGER_SPLIT}
