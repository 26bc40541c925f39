"""The tables of a node's store, as the steps that made them.

A step is never edited once released: add another.

Amounts (uint128) are 16 bytes big-endian, which SQLite compares in the right order; addresses, hashes and
keys are their raw bytes; records are their canonical CBOR. Times end in `_ms` or are Unix seconds.
"""

from __future__ import annotations

_FIRST = (
    """CREATE TABLE settings (
        name  TEXT PRIMARY KEY,
        value BLOB NOT NULL
    ) WITHOUT ROWID, STRICT""",
    # What this worker admitted, so that an id is served once until its deadline.
    """CREATE TABLE requests (
        payer        BLOB NOT NULL,
        request_id   BLOB NOT NULL,
        request_hash BLOB NOT NULL,
        deadline     INTEGER NOT NULL,
        state        TEXT NOT NULL CHECK (state IN ('running', 'done', 'failed')),
        PRIMARY KEY (payer, request_id)
    ) WITHOUT ROWID, STRICT""",
    "CREATE INDEX requests_by_deadline ON requests (deadline)",
    # The highest voucher of each channel; role is what this node is in it.
    """CREATE TABLE channels (
        role       TEXT NOT NULL CHECK (role IN ('client', 'worker')),
        payer      BLOB NOT NULL,
        lane       BLOB NOT NULL,
        seq        INTEGER NOT NULL CHECK (seq > 0),
        cumulative BLOB NOT NULL CHECK (length(cumulative) = 16),
        voucher    BLOB NOT NULL,
        PRIMARY KEY (role, payer, lane)
    ) WITHOUT ROWID, STRICT""",
    # A lane's commitments: prepared (content fixed) → posted (on chain) → final (its window has passed).
    # `data` is what is published beside it, kept until a later commitment is final.
    """CREATE TABLE epochs (
        lane       BLOB NOT NULL,
        epoch      INTEGER NOT NULL,
        commitment BLOB NOT NULL,
        trees      TEXT NOT NULL,
        data       BLOB,
        state      TEXT NOT NULL CHECK (state IN ('prepared', 'posted', 'final')),
        tx         TEXT,
        PRIMARY KEY (lane, epoch)
    ) WITHOUT ROWID, STRICT""",
    # What accounts have earned in a lane by its posted commitments' receipts.
    """CREATE TABLE earnings (
        lane       BLOB NOT NULL,
        account    BLOB NOT NULL,
        cumulative BLOB NOT NULL CHECK (length(cumulative) = 16),
        PRIMARY KEY (lane, account)
    ) WITHOUT ROWID, STRICT""",
    """CREATE TABLE receipts (
        number       INTEGER PRIMARY KEY,
        role         TEXT NOT NULL CHECK (role IN ('client', 'worker')),
        receipt_hash BLOB NOT NULL,
        receipt_id   BLOB NOT NULL,
        request_hash BLOB NOT NULL,
        payer        BLOB NOT NULL,
        lane         BLOB NOT NULL,
        seq          INTEGER NOT NULL CHECK (seq > 0),
        epoch        INTEGER NOT NULL,
        adapter      TEXT,
        signed       BLOB NOT NULL,
        prompt       BLOB,
        tokens       BLOB NOT NULL,
        state        TEXT NOT NULL CHECK (state IN ('issued', 'vouchered', 'abandoned')),
        voucher      BLOB,
        credits      BLOB,
        commitment   INTEGER,
        created_ms   INTEGER NOT NULL,
        UNIQUE (role, receipt_hash),
        UNIQUE (role, payer, lane, seq),
        FOREIGN KEY (lane, commitment) REFERENCES epochs (lane, epoch),
        CHECK ((state = 'vouchered') = (voucher IS NOT NULL)),
        CHECK (commitment IS NULL OR (state = 'vouchered' AND role = 'worker' AND credits IS NOT NULL))
    ) STRICT""",
    "CREATE INDEX receipts_by_id ON receipts (receipt_id)",
    "CREATE INDEX receipts_by_request ON receipts (request_hash)",
    "CREATE INDEX receipts_by_commitment ON receipts (lane, commitment, payer, seq) WHERE role = 'worker'",
    # Payers' signed bindings: the chain must know a payer before it pays.
    """CREATE TABLE bindings (
        session_key BLOB PRIMARY KEY,
        not_after   INTEGER NOT NULL,
        binding     BLOB NOT NULL
    ) WITHOUT ROWID, STRICT""",
    # Sealed attribution statements, one for each attributor of a receipt's adapter.
    """CREATE TABLE statements (
        receipt_hash BLOB NOT NULL,
        adapter      TEXT NOT NULL,
        attributor   BLOB NOT NULL,
        sealed       BLOB NOT NULL,
        PRIMARY KEY (receipt_hash, adapter, attributor)
    ) WITHOUT ROWID, STRICT""",
    # Sealed adapter and Datanet records: a name is the first key's that announced it; its highest seq counts.
    """CREATE TABLE records (
        kind       TEXT NOT NULL,
        name       TEXT NOT NULL,
        public_key BLOB NOT NULL,
        seq        INTEGER NOT NULL,
        sealed     BLOB NOT NULL,
        PRIMARY KEY (kind, name)
    ) WITHOUT ROWID, STRICT""",
    # Every transaction this node meant to send, before (intended) and after (done); the chain has the last
    # word.
    """CREATE TABLE journal (
        number  INTEGER PRIMARY KEY,
        step    TEXT NOT NULL CHECK (step IN ('redeem', 'post', 'claim')),
        lane    BLOB NOT NULL,
        subject BLOB NOT NULL,
        amount  BLOB NOT NULL CHECK (length(amount) = 16),
        state   TEXT NOT NULL CHECK (state IN ('intended', 'done')),
        tx      TEXT,
        at_ms   INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX journal_by_state ON journal (state)",
)

_SECOND = (
    # A commitment's earnings are in its data: what was added up beside it could only differ.
    "DROP TABLE earnings",
    "DROP INDEX journal_by_state",
    "ALTER TABLE journal RENAME TO journal_before",
    """CREATE TABLE journal (
        number  INTEGER PRIMARY KEY,
        step    TEXT NOT NULL
                CHECK (step IN ('redeem', 'post', 'claim', 'bond', 'answer', 'prove', 'demand')),
        lane    BLOB NOT NULL,
        subject BLOB NOT NULL,
        amount  BLOB NOT NULL CHECK (length(amount) = 16),
        state   TEXT NOT NULL CHECK (state IN ('intended', 'done')),
        tx      TEXT,
        at_ms   INTEGER NOT NULL
    ) STRICT""",
    "INSERT INTO journal SELECT * FROM journal_before",
    "DROP TABLE journal_before",
    "CREATE INDEX journal_by_state ON journal (state)",
)

_THIRD = (
    # Paid answers that may be scored and are not yet: their requests, as their payers signed them.
    """CREATE TABLE consents (
        number       INTEGER PRIMARY KEY,
        receipt_hash BLOB NOT NULL UNIQUE,
        consent      BLOB NOT NULL
    ) STRICT""",
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _SECOND, _THIRD)
"""Step i brings a store from version i to i + 1; the version is SQLite's `user_version`."""
