-- The messages of requests: every field that Spanner's API has, by number, and how it is treated (wire.lua).
-- tests/conformance/test_fields.py holds them against the published descriptors.

local BYTES, NUMBER = wire.BYTES, wire.NUMBER
local MANY, CUT = wire.MANY, wire.CUT

return {
  ExecuteSqlRequest = {
    [1] = BYTES, [2] = BYTES, [3] = BYTES, [4] = BYTES, [5] = BYTES + MANY, [6] = BYTES, [7] = NUMBER, [8] = BYTES,
    [9] = NUMBER, [10] = BYTES, [11] = BYTES, [15] = BYTES, [16] = NUMBER, [17] = NUMBER, [18] = BYTES + CUT,
  },
  ExecuteBatchDmlRequest = {
    [1] = BYTES, [2] = BYTES, [3] = BYTES + MANY, [4] = NUMBER, [5] = BYTES, [6] = NUMBER,
  },
  ["ExecuteBatchDmlRequest.Statement"] = { [1] = BYTES, [2] = BYTES, [3] = BYTES + MANY },
  ReadRequest = {
    [1] = BYTES, [2] = BYTES, [3] = BYTES, [4] = BYTES, [5] = BYTES + MANY, [6] = BYTES, [8] = NUMBER, [9] = BYTES,
    [10] = BYTES, [11] = BYTES, [14] = BYTES, [15] = NUMBER, [16] = NUMBER, [17] = NUMBER, [18] = BYTES + CUT,
  },
  PartitionQueryRequest = { [1] = BYTES, [2] = BYTES, [3] = BYTES, [4] = BYTES, [5] = BYTES + MANY, [6] = BYTES },
  PartitionReadRequest = {
    [1] = BYTES, [2] = BYTES, [3] = BYTES, [4] = BYTES, [5] = BYTES + MANY, [6] = BYTES, [9] = BYTES,
  },
  BeginTransactionRequest = { [1] = BYTES, [2] = BYTES, [3] = BYTES, [4] = BYTES, [5] = BYTES + CUT },
  CommitRequest = {
    [1] = BYTES, [2] = BYTES, [3] = BYTES, [4] = BYTES + MANY, [5] = NUMBER, [6] = BYTES, [8] = BYTES, [9] = BYTES,
    [10] = BYTES + CUT,
  },
  BatchWriteRequest = { [1] = BYTES, [3] = BYTES, [4] = BYTES + MANY, [5] = NUMBER },
  ["BatchWriteRequest.MutationGroup"] = { [1] = BYTES + MANY },
  RollbackRequest = { [1] = BYTES, [2] = BYTES },
  CreateSessionRequest = { [1] = BYTES, [2] = BYTES },
  BatchCreateSessionsRequest = { [1] = BYTES, [2] = BYTES, [3] = NUMBER },
  GetSessionRequest = { [1] = BYTES },
  ListSessionsRequest = { [1] = BYTES, [2] = NUMBER, [3] = BYTES, [4] = BYTES },
  DeleteSessionRequest = { [1] = BYTES },
  Session = { [1] = BYTES, [2] = BYTES + MANY, [3] = BYTES, [4] = BYTES, [5] = BYTES, [6] = NUMBER },
  ["Session.LabelsEntry"] = { [1] = BYTES, [2] = BYTES },
  TransactionSelector = { [1] = BYTES, [2] = BYTES, [3] = BYTES },
  TransactionOptions = { [1] = BYTES, [2] = BYTES, [3] = BYTES, [5] = NUMBER, [6] = NUMBER },
  ["TransactionOptions.ReadWrite"] = { [1] = NUMBER, [2] = BYTES },
  RequestOptions = { [1] = NUMBER, [2] = BYTES, [3] = BYTES, [4] = BYTES + CUT },
  Mutation = {
    [1] = BYTES, [2] = BYTES, [3] = BYTES, [4] = BYTES, [5] = BYTES, [6] = BYTES, [7] = BYTES,
  },
  ["Mutation.Write"] = { [1] = BYTES, [2] = BYTES + MANY, [3] = BYTES + MANY },
  ["Mutation.Delete"] = { [1] = BYTES, [2] = BYTES },
  ["Mutation.Send"] = { [1] = BYTES, [2] = BYTES, [3] = BYTES, [4] = BYTES },
  ["Mutation.Ack"] = { [1] = BYTES, [2] = BYTES, [3] = NUMBER },
  -- google.spanner.admin.database.v1 and google.longrunning.
  GetDatabaseRequest = { [1] = BYTES },
  GetDatabaseDdlRequest = { [1] = BYTES },
  UpdateDatabaseDdlRequest = { [1] = BYTES, [2] = BYTES + MANY, [3] = BYTES, [4] = BYTES, [5] = NUMBER },
  GetOperationRequest = { [1] = BYTES },
}
