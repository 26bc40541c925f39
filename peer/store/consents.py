"""Paid answers whose payers agreed to attribution and that have no statement yet: a receipt may be drawn days
after its answer, and this node may have been started anew in between.

Rules of this file: only what the ledger does not hold is kept, the payer's signed request without its prompt;
an answer is read back from its receipts. Of many the oldest give way: the manifest's priors divide those.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...protocol.encoding.codec import decode, encode
from ...protocol.encoding.fields import Signature65
from ...protocol.requests.records import InferenceRequest, Prompt, SignedRequest
from ...protocol.signing.bindings import SignedBinding
from .database import Database, Transaction

MAX_KEPT = 65_536


@dataclass(frozen=True, slots=True)
class Consent:
    """What a payer signed, without the prompt: that is the receipt's."""

    request: InferenceRequest
    signature: Signature65
    binding: SignedBinding


class Consents:
    """The answers that wait to be scored, by receipt hash."""

    def __init__(self, database: Database, most: int = MAX_KEPT) -> None:
        self._database = database
        self._most = most

    async def keep(self, receipt_hash: bytes, signed: SignedRequest) -> None:
        """This answer may be scored."""
        kept = encode(Consent(signed.request, signed.signature, signed.binding))

        async def work(sql: Transaction) -> None:
            await sql.insert("consents", replace=True, receipt_hash=receipt_hash, consent=kept)
            latest = "(SELECT max(number) FROM consents)"
            await sql.run(f"DELETE FROM consents WHERE number <= {latest} - ?", self._most)

        await self._database.write(work, durable=False)

    async def drop(self, receipt_hash: bytes) -> None:
        """It is scored."""

        async def work(sql: Transaction) -> None:
            await sql.run("DELETE FROM consents WHERE receipt_hash = ?", receipt_hash)

        await self._database.write(work, durable=False)

    async def signed(self, receipt_hash: bytes, prompt: Prompt) -> SignedRequest | None:
        """What its payer signed, with its prompt; None where it does not wait."""
        rows = await self._database.read("SELECT consent FROM consents WHERE receipt_hash = ?", receipt_hash)
        if not rows:
            return None
        consent = decode(Consent, rows[0][0])
        return SignedRequest(consent.request, consent.signature, consent.binding, prompt)
