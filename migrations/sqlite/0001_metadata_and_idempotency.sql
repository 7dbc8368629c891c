-- Tenants, storage nodes, the topology's epoch, and the claims and answers of idempotent requests.

CREATE TABLE tenants (
    id                  TEXT    NOT NULL PRIMARY KEY,
    replication_factor  INTEGER NOT NULL CHECK (replication_factor BETWEEN 1 AND 10),
    conflict_policy     TEXT    NOT NULL,
    default_consistency TEXT,              -- NULL: the server's
    created_at          INTEGER NOT NULL,  -- Unix seconds
    updated_at          INTEGER NOT NULL,  -- Unix seconds
    version             INTEGER NOT NULL CHECK (version >= 1),
    changed             INTEGER NOT NULL   -- grows with every change of any tenant: what a watch looks for
) STRICT;
CREATE UNIQUE INDEX tenants_changed ON tenants (changed);

INSERT INTO tenants
VALUES ('default', 3, 'last_write_wins', NULL, unixepoch(), unixepoch(), 1, 1);

CREATE TABLE topology (
    only_row   INTEGER NOT NULL PRIMARY KEY CHECK (only_row = 1),
    epoch      INTEGER NOT NULL CHECK (epoch >= 0),
    partitions INTEGER NOT NULL CHECK (partitions >= 1)
) STRICT;

INSERT INTO topology VALUES (1, 0, 4096);

-- The nodes of the one topology, replaced together with its epoch.
CREATE TABLE storage_nodes (
    id            TEXT    NOT NULL PRIMARY KEY,
    host          TEXT    NOT NULL,
    port          INTEGER NOT NULL CHECK (port BETWEEN 1 AND 65535),
    virtual_nodes INTEGER NOT NULL CHECK (virtual_nodes >= 1),
    status        TEXT    NOT NULL
) STRICT;

-- One row for each idempotency key of a record. Stamp and holder are 64 bits without sign, kept as they are.
CREATE TABLE idempotency (
    record_key      BLOB    NOT NULL,
    idempotency_key TEXT    NOT NULL,
    fingerprint     BLOB    NOT NULL CHECK (length(fingerprint) = 32),
    write_id        BLOB    NOT NULL CHECK (length(write_id) = 16),
    stamp           INTEGER NOT NULL,
    holder          INTEGER NOT NULL,
    lease_until_ms  INTEGER NOT NULL,
    expires_ms      INTEGER NOT NULL,
    answer          BLOB,              -- NULL: pending
    PRIMARY KEY (record_key, idempotency_key)
) STRICT;
CREATE INDEX idempotency_expires ON idempotency (expires_ms);
