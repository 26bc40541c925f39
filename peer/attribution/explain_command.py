"""What `receipt explain` reads of this machine: the evidence as far as it is here, and the answer's text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ...protocol.errors import CommonloreError, NotFound, ProtocolError, Unreachable
from ...worker.models.cache import default_cache_dir, find_base
from ..config import Config
from ..home import Home
from ..store.ledger_rows import StoredReceipt
from .evidence import Evidence
from .explaining import Explanation
from .explaining_parts import explain_parts
from .receipt_check import CheckOptions, read_evidence

MOST, LEAST = 2, 0


def explain_receipt(home: Home, config: Config, name: str) -> tuple[StoredReceipt, Explanation]:
    """A receipt explained as far as this machine can. Raises NotFound for a receipt that is not here."""
    missing: list[str] = []
    for level in range(MOST, LEAST, -1):
        try:
            return _explained(home, config, (name, level), missing)
        except (NotFound, Unreachable, ProtocolError) as error:
            missing.append(str(error))
    return _explained(home, config, (name, LEAST), missing)


def _explained(
    home: Home, config: Config, wanted: tuple[str, int], missing: Sequence[str]
) -> tuple[StoredReceipt, Explanation]:
    """From what a check of this level reads."""
    parts = read_evidence(home, config, CheckOptions(*wanted, 1))
    found = dict.fromkeys(said for each in parts for said in (each.wrong, each.withdrawn) if said)
    return parts[0].stored, explain_parts(parts, answer_text(config, parts[0]), [*missing[:1], *found])


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
