-- API keys of tenants. A secret is stored as its SHA-256 only.
--
-- A change of a key takes the next number of tenant_changes first, as a change of a tenant does: one sequence for both.

CREATE TABLE api_keys (
    id          TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    tenant_id   TEXT COLLATE "C" NOT NULL,
    role        TEXT   NOT NULL,
    secret_hash BYTEA  NOT NULL CHECK (length(secret_hash) = 32),
    created_at  BIGINT NOT NULL,  -- Unix seconds
    revoked_at  BIGINT,           -- Unix seconds; NULL: valid
    changed     BIGINT NOT NULL   -- the number of the change that made it so
);
CREATE INDEX api_keys_of_tenant ON api_keys (tenant_id, id);
CREATE UNIQUE INDEX api_keys_changed ON api_keys (changed);
