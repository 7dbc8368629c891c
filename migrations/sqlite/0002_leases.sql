-- Who does what need not be done twice, for how long.

CREATE TABLE leases (
    name     TEXT    NOT NULL PRIMARY KEY,
    holder   INTEGER NOT NULL,  -- 64 bits without sign, kept as they are
    until_ms INTEGER NOT NULL   -- by SQLite's clock
) STRICT;
