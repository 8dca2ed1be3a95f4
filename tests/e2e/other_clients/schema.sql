CREATE TABLE Parcels (
  ParcelId INT64 NOT NULL,
  Sender STRING(MAX),
  Fragile BOOL,
  Weight FLOAT64,
  Value NUMERIC,
  Label BYTES(MAX),
  Posted DATE,
  Scanned TIMESTAMP,
  Details JSON,
  Marks ARRAY<STRING(MAX)>,
  Stops ARRAY<INT64>,
  Touched TIMESTAMP OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (ParcelId);

CREATE INDEX ParcelsBySender ON Parcels (Sender) STORING (Fragile);

CREATE TABLE Ledger (
  EntryId INT64 NOT NULL,
  Amount INT64,
) PRIMARY KEY (EntryId);
