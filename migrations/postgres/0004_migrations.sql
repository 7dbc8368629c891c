-- Changes of owners: zones and seats of nodes, the change under way, and all that were asked for.

ALTER TABLE storage_nodes ADD COLUMN zone TEXT;  -- NULL: in none
ALTER TABLE storage_nodes ADD COLUMN seat TEXT;  -- NULL: its own name

ALTER TABLE topology ADD COLUMN factors_since BIGINT NOT NULL DEFAULT 0 CHECK (factors_since >= 0);
ALTER TABLE topology ADD COLUMN change        TEXT;  -- JSON; NULL: none is under way

-- Counts are 64 bits without sign, kept as they are.
CREATE TABLE migrations (
    id               TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    request          TEXT   NOT NULL,  -- JSON
    status           TEXT   NOT NULL,
    cancel           BIGINT NOT NULL CHECK (cancel IN (0, 1)),
    created_at       BIGINT NOT NULL,  -- Unix seconds
    started_at       BIGINT,           -- Unix seconds; NULL: it was not begun
    ended_at         BIGINT,           -- Unix seconds; NULL: it has not ended
    partitions       BIGINT NOT NULL,
    partitions_done  BIGINT NOT NULL,
    keys             BIGINT NOT NULL,
    keys_total       BIGINT NOT NULL,
    bytes            BIGINT NOT NULL,
    waits_for        TEXT,
    error            TEXT,
    bytes_per_second BIGINT,           -- NULL: without a limit of its own
    version          BIGINT NOT NULL CHECK (version >= 1),
    place            BIGINT NOT NULL   -- in the queue: the order in which they were asked for
);
CREATE UNIQUE INDEX migrations_place ON migrations (place);

-- The place of the newest migration. Whoever adds one takes the next place first, so places are committed in their
-- order, and nobody finds a place before one that was seen taken.
CREATE TABLE migration_places (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
    newest   BIGINT NOT NULL
);

INSERT INTO migration_places VALUES (1, 0);

-- The partitions that a migration has moved.
CREATE TABLE migration_checkpoints (
    migration_id TEXT COLLATE "C" NOT NULL,
    partition_id BIGINT NOT NULL,
    keys         BIGINT NOT NULL,
    bytes        BIGINT NOT NULL,
    PRIMARY KEY (migration_id, partition_id)
);
