-- How many unresolved siblings a tenant's keys may have.

ALTER TABLE tenants ADD COLUMN siblings_warn BIGINT NOT NULL DEFAULT 16;
ALTER TABLE tenants ADD COLUMN siblings_max  BIGINT NOT NULL DEFAULT 256;
