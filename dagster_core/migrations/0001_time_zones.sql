-- The tables of the assets. One that an asset has made before, without keys, is kept and gets them.
CREATE TABLE IF NOT EXISTS time_zones (
  country text,
  name text,
  latitude double precision,
  longitude double precision
);
CREATE TABLE IF NOT EXISTS utc_offsets (
  zone text,
  year bigint,
  january_minutes bigint,
  july_minutes bigint,
  changes_clocks boolean
);

ALTER TABLE time_zones
  ADD PRIMARY KEY (country, name),
  ALTER COLUMN latitude SET NOT NULL,
  ALTER COLUMN longitude SET NOT NULL;
ALTER TABLE utc_offsets
  ADD PRIMARY KEY (zone, year),
  ALTER COLUMN january_minutes SET NOT NULL,
  ALTER COLUMN july_minutes SET NOT NULL,
  ALTER COLUMN changes_clocks SET NOT NULL;
