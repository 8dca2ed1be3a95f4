-- The shop's database. Spangate reads it to give the names in spangate.yaml their meaning.

CREATE TABLE Customers (
  CustomerId STRING(36) NOT NULL,
  Name       STRING(100) NOT NULL,
  Email      STRING(320),
  Region     STRING(20) NOT NULL,
) PRIMARY KEY (CustomerId);

CREATE TABLE Orders (
  OrderId    STRING(36) NOT NULL,
  CustomerId STRING(36) NOT NULL,
  Status     STRING(20) NOT NULL,
  Total      NUMERIC NOT NULL,
  UpdatedAt  TIMESTAMP NOT NULL OPTIONS (allow_commit_timestamp = true),
) PRIMARY KEY (OrderId);

CREATE TABLE OrderItems (
  OrderId  STRING(36) NOT NULL,
  ItemNo   INT64 NOT NULL,
  Product  STRING(100) NOT NULL,
  Quantity INT64 NOT NULL,
  Price    NUMERIC NOT NULL,
) PRIMARY KEY (OrderId, ItemNo),
  INTERLEAVE IN PARENT Orders ON DELETE CASCADE;

CREATE INDEX OrdersByCustomer ON Orders (CustomerId) STORING (Status);
