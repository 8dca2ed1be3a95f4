-- The corpus' database `shop`, as Spangate reads it. world.yaml says the same to the reference.
CREATE TABLE Customers (
  CustomerId STRING(36) NOT NULL, Name STRING(100), Email STRING(320), Region STRING(20),
) PRIMARY KEY (CustomerId);
CREATE TABLE Orders (
  OrderId STRING(36) NOT NULL, CustomerId STRING(36), Status STRING(20), Total INT64,
) PRIMARY KEY (OrderId);
CREATE TABLE OrderItems (
  OrderId STRING(36) NOT NULL, ItemNo INT64 NOT NULL, Product STRING(100), Quantity INT64,
) PRIMARY KEY (OrderId, ItemNo), INTERLEAVE IN PARENT Orders ON DELETE CASCADE;
CREATE TABLE Notes (NoteId STRING(36) NOT NULL, Body STRING(MAX)) PRIMARY KEY (NoteId);
CREATE INDEX OrdersByCustomer ON Orders (CustomerId) STORING (Status);
CREATE INDEX CustomersByEmail ON Customers (Email);
