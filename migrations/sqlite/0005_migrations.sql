-- Changes of owners: zones and seats of nodes, the change under way, and all that were asked for.

ALTER TABLE storage_nodes ADD COLUMN zone TEXT;  -- NULL: in none
ALTER TABLE storage_nodes ADD COLUMN seat TEXT;  -- NULL: its own name

ALTER TABLE topology ADD COLUMN factors_since INTEGER NOT NULL DEFAULT 0 CHECK (factors_since >= 0);
ALTER TABLE topology ADD COLUMN change        TEXT;  -- JSON; NULL: none is under way

-- Counts are 64 bits without sign, kept as they are.
CREATE TABLE migrations (
    id               TEXT    NOT NULL PRIMARY KEY,
    request          TEXT    NOT NULL,  -- JSON
    status           TEXT    NOT NULL,
    cancel           INTEGER NOT NULL CHECK (cancel IN (0, 1)),
    created_at       INTEGER NOT NULL,  -- Unix seconds
    started_at       INTEGER,           -- Unix seconds; NULL: it was not begun
    ended_at         INTEGER,           -- Unix seconds; NULL: it has not ended
    partitions       INTEGER NOT NULL,
    partitions_done  INTEGER NOT NULL,
    keys             INTEGER NOT NULL,
    keys_total       INTEGER NOT NULL,
    bytes            INTEGER NOT NULL,
    waits_for        TEXT,
    error            TEXT,
    bytes_per_second INTEGER,           -- NULL: without a limit of its own
    version          INTEGER NOT NULL CHECK (version >= 1),
    place            INTEGER NOT NULL   -- in the queue: the order in which they were asked for
) STRICT;
CREATE UNIQUE INDEX migrations_place ON migrations (place);

-- The partitions that a migration has moved.
CREATE TABLE migration_checkpoints (
    migration_id TEXT    NOT NULL,
    partition_id INTEGER NOT NULL,
    keys         INTEGER NOT NULL,
    bytes        INTEGER NOT NULL,
    PRIMARY KEY (migration_id, partition_id)
) STRICT;
