"""What `receipt explain` reads of this machine: the evidence as far as it is here, and the answer's text."""

from __future__ import annotations

from pathlib import Path

from ...protocol.errors import CommonloreError
from ...worker.models.cache import default_cache_dir, find_base
from ..config import Config
from ..home import Home
from ..store.ledger_rows import StoredReceipt
from .evidence import Evidence
from .explaining import Explanation
from .explaining_parts import explain_parts
from .receipt_check import CheckOptions, read_as_far

MOST = 2
"""The level whose evidence is read."""


def explain_receipt(home: Home, config: Config, name: str) -> tuple[StoredReceipt, Explanation]:
    """A receipt explained as far as this machine can. Raises NotFound for a receipt that is not here."""
    gathered = read_as_far(home, config, CheckOptions(name, MOST, 1))
    parts, lacking = gathered.parts, gathered.lacking
    missing = [] if lacking is None else [str(lacking)]
    found = dict.fromkeys(each.withdrawn for each in parts if each.withdrawn)
    return parts[0].stored, explain_parts(parts, answer_text(config, parts[0]), [*missing, *found])


def answer_text(config: Config, evidence: Evidence) -> str | None:
    """The answer's text, where its tokens and the tokenizer of its base are here."""
    if evidence.manifest is None or not evidence.stored.tokens:
        return None
    folder = Path(config.cache_dir) if config.cache_dir else default_cache_dir()
    try:
        from ...worker.models.chat import ChatTokenizer

        directory = find_base(folder, evidence.manifest.base)
        return ChatTokenizer.load(directory, {}).decode(evidence.stored.tokens)
    except (CommonloreError, ImportError):
        return None
