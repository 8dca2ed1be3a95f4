-- The calls that pass, and how a request body of each is read. Whatever is not here is refused.

local byte, find, sub = string.byte, string.find, string.sub
local refuse, malformed, printable = refusal.refuse, refusal.malformed, refusal.printable
local scan, scan_field, begin_request = wire.scan, wire.scan_field, wire.begin_request
local text, netstring = wire.text, wire.netstring
local NO_FLAGS = shape.NO_FLAGS

-- tests/conformance/test_limits.py holds these against settings.py, where the reasons stand.
local REQUEST_BYTES_MAX = 10485760
local COMMIT_BYTES_MAX = 104857600

-- Names in field 1 of a request, and the database in each.
local PART = "[%w%._:%-]+"
local IN_DATABASE = "^(projects/" .. PART .. "/instances/" .. PART .. "/databases/" .. PART .. ")"
local SESSION = IN_DATABASE .. "/sessions/[%w%._~=:%-]+$"
local DATABASE = IN_DATABASE .. "$"
local OPERATION = IN_DATABASE .. "/operations/[%w%._~=:%-]+$"

local SPANNER = "/google.spanner.v1.Spanner/"
local ADMIN = "/google.spanner.admin.database.v1.DatabaseAdmin/"
local OPERATIONS = "/google.longrunning.Operations/"

-- `names`: what field 1 is. `shape`: the last part of its shape. `options`: the field of its request options, which take
-- the transaction tag. `creates`: the field of a template for sessions. `answer`: the hook that reads Spanner's answer.
local function call(message, names, read, more)
  local found = more or {}
  found.spec, found.names, found.shape = messages[message], names, read
  return found
end

local PATHS = {
  [SPANNER .. "ExecuteSql"] = call("ExecuteSqlRequest", SESSION, shape.sql, { options = 11 }),
  [SPANNER .. "ExecuteStreamingSql"] = call("ExecuteSqlRequest", SESSION, shape.sql, { options = 11 }),
  [SPANNER .. "ExecuteBatchDml"] = call("ExecuteBatchDmlRequest", SESSION, shape.batch, { options = 5 }),
  [SPANNER .. "Read"] = call("ReadRequest", SESSION, shape.read, { options = 11 }),
  [SPANNER .. "StreamingRead"] = call("ReadRequest", SESSION, shape.read, { options = 11 }),
  [SPANNER .. "PartitionQuery"] = call("PartitionQueryRequest", SESSION, shape.sql),
  [SPANNER .. "PartitionRead"] = call("PartitionReadRequest", SESSION, shape.read),
  [SPANNER .. "BeginTransaction"] = call("BeginTransactionRequest", SESSION, shape.begin, { options = 3 }),
  [SPANNER .. "Commit"] = call("CommitRequest", SESSION, shape.commit, {
    options = 6,
    bytes_max = COMMIT_BYTES_MAX,
    answer = "commit",
  }),
  [SPANNER .. "BatchWrite"] = call("BatchWriteRequest", SESSION, shape.batch_write, { options = 3 }),
  [SPANNER .. "Rollback"] = call("RollbackRequest", SESSION, shape.plain),
  [SPANNER .. "CreateSession"] = call("CreateSessionRequest", DATABASE, shape.create, { creates = 2 }),
  [SPANNER .. "BatchCreateSessions"] = call("BatchCreateSessionsRequest", DATABASE, shape.create, { creates = 2 }),
  [SPANNER .. "GetSession"] = call("GetSessionRequest", SESSION, shape.plain),
  [SPANNER .. "ListSessions"] = call("ListSessionsRequest", DATABASE, shape.plain),
  [SPANNER .. "DeleteSession"] = call("DeleteSessionRequest", SESSION, shape.plain),
  [ADMIN .. "GetDatabase"] = call("GetDatabaseRequest", DATABASE, shape.plain),
  [ADMIN .. "GetDatabaseDdl"] = call("GetDatabaseDdlRequest", DATABASE, shape.plain),
  [ADMIN .. "UpdateDatabaseDdl"] = call("UpdateDatabaseDdlRequest", DATABASE, shape.ddl),
  [OPERATIONS .. "GetOperation"] = call("GetOperationRequest", OPERATION, shape.plain),
}
for path, found in pairs(PATHS) do
  found.name = path:match("[^/]+$")
  found.prefix = netstring(found.name)
end

local UNREADABLE = {
  [SESSION] = "the session has no readable name",
  [DATABASE] = "the database has no readable name",
  [OPERATION] = "the operation has no readable name; Spangate lets pass only those of databases",
}

-- Says what to do about a call that is not in PATHS.
local function refuse_call(path)
  if path == SPANNER .. "FetchCacheUpdate" then
    refuse("unsupported-rpc", "FetchCacheUpdate serves location-aware routing, which would lead clients past the gateway; "
      .. "switch it off in the client (GOOGLE_SPANNER_EXPERIMENTAL_LOCATION_API)")
  end
  if sub(path, 1, 22) == "/google.spanner.admin." or sub(path, 1, 20) == "/google.longrunning." then
    refuse("unsupported-rpc", printable(path, 100) .. " is administration, which does not go through Spangate but for "
      .. "GetDatabase, GetDatabaseDdl, UpdateDatabaseDdl and their operations; use gcloud or a client with credentials "
      .. "of your own")
  end
  refuse("unsupported-rpc", printable(path, 100) .. " is not supported by this version of Spangate; refused")
end

-- The one message of a gRPC request body: its last position; it begins at 6.
local function message_end(body, rpc)
  local size = #body
  if size < 5 then malformed("there is no message") end
  local flag, a, b, c, d = byte(body, 1, 5)
  if flag == 1 then refuse("compressed-message", "the message is compressed; send it uncompressed") end
  if flag ~= 0 then malformed("the message has unknown flags") end
  local length = ((a * 256 + b) * 256 + c) * 256 + d
  local bytes_max = rpc.bytes_max or REQUEST_BYTES_MAX
  if length > bytes_max or size - 5 > bytes_max then
    refuse("request-too-large", rpc.name .. " takes at most " .. bytes_max / 1048576 .. " MiB")
  end
  if length ~= size - 5 then malformed("there is not exactly one message") end
  return size
end

-- A request body -> its scanned fields, its database and the last part of its shape. Refuses what it cannot read. Beside
-- the fields' places by number, `out` holds those within messages: selector, single, begins, multiplexed (shape.lua),
-- options; and `flags`, as a netstring.
local function read_request(body, rpc)
  begin_request()
  local out = scan(body, 6, message_end(body, rpc), rpc.spec, {})
  local _, _, database = find(text(body, out, 1), rpc.names)
  if not database then malformed(UNREADABLE[rpc.names]) end
  out.flags = NO_FLAGS
  if rpc.options then out.options = scan_field(body, out, rpc.options, messages.RequestOptions) end
  return out, database, rpc.shape(body, out)
end

return {
  REQUEST_BYTES_MAX = REQUEST_BYTES_MAX,
  COMMIT_BYTES_MAX = COMMIT_BYTES_MAX,
  SESSION = SESSION,
  DATABASE = DATABASE,
  OPERATION = OPERATION,
  PATHS = PATHS,
  refuse_call = refuse_call,
  read_request = read_request,
}
