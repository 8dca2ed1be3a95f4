-- What `shop` holds besides tables and indexes.
CREATE VIEW PaidOrders SQL SECURITY DEFINER AS SELECT o.OrderId, o.Total FROM Orders AS o WHERE o.Status = 'paid';
CREATE VIEW OpenOrders SQL SECURITY INVOKER AS SELECT o.OrderId FROM Orders AS o WHERE o.Status = 'open';
CREATE CHANGE STREAM OrderChanges FOR Orders;
CREATE SEQUENCE OrderNumbers OPTIONS (sequence_kind = 'bit_reversed_positive');
CREATE QUEUE Jobs (JobId STRING(36) NOT NULL, Payload BYTES(MAX) NOT NULL) PRIMARY KEY (JobId);
