-- Tenants, storage nodes, the topology's epoch, and leases.
--
-- Nothing here is beyond databases that only speak PostgreSQL's language: names compare by their bytes (COLLATE "C"),
-- numbers are BIGINT throughout.

CREATE TABLE tenants (
    id                  TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    replication_factor  BIGINT NOT NULL CHECK (replication_factor BETWEEN 1 AND 10),
    conflict_policy     TEXT   NOT NULL,
    default_consistency TEXT,             -- NULL: the server's
    created_at          BIGINT NOT NULL,  -- Unix seconds
    updated_at          BIGINT NOT NULL,  -- Unix seconds
    version             BIGINT NOT NULL CHECK (version >= 1),
    changed             BIGINT NOT NULL   -- the number of the change that made it so
);
CREATE UNIQUE INDEX tenants_changed ON tenants (changed);

-- The number of the newest change of any tenant. Whoever changes one takes the next number first, so numbers are
-- committed in their order and a watch that has seen one has seen all before it.
CREATE TABLE tenant_changes (
    only_row BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
    newest   BIGINT NOT NULL
);

INSERT INTO tenant_changes VALUES (1, 1);
INSERT INTO tenants
SELECT 'default', 3, 'last_write_wins', NULL, unix_now, unix_now, 1, 1
FROM (SELECT CAST(floor(extract(epoch FROM now())) AS BIGINT) AS unix_now) AS clock;

CREATE TABLE topology (
    only_row   BIGINT NOT NULL PRIMARY KEY CHECK (only_row = 1),
    epoch      BIGINT NOT NULL CHECK (epoch >= 0),
    partitions BIGINT NOT NULL CHECK (partitions >= 1)
);

INSERT INTO topology VALUES (1, 0, 4096);

-- The nodes of the one topology, replaced together with its epoch.
CREATE TABLE storage_nodes (
    id            TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    host          TEXT   NOT NULL,
    port          BIGINT NOT NULL CHECK (port BETWEEN 1 AND 65535),
    virtual_nodes BIGINT NOT NULL CHECK (virtual_nodes >= 1),
    status        TEXT   NOT NULL
);

-- Who does what need not be done twice, for how long.
CREATE TABLE leases (
    name     TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    holder   BIGINT NOT NULL,  -- 64 bits without sign, kept as they are
    until_ms BIGINT NOT NULL   -- by the database's clock
);
