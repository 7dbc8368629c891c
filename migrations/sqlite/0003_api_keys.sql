-- API keys of tenants. A secret is stored as its SHA-256 only.

CREATE TABLE api_keys (
    id          TEXT    NOT NULL PRIMARY KEY,
    tenant_id   TEXT    NOT NULL,
    role        TEXT    NOT NULL,
    secret_hash BLOB    NOT NULL CHECK (length(secret_hash) = 32),
    created_at  INTEGER NOT NULL,  -- Unix seconds
    revoked_at  INTEGER,           -- Unix seconds; NULL: valid
    changed     INTEGER NOT NULL   -- grows with every change of any key: what a watch looks for
) STRICT;
CREATE INDEX api_keys_of_tenant ON api_keys (tenant_id, id);
CREATE UNIQUE INDEX api_keys_changed ON api_keys (changed);
