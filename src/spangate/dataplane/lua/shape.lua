-- A request's shape: everything that a decision about it can depend on, as netstrings; spangate/rpc/shape.py reads them.
--
-- Rules: the body is believed, never the headers. What cannot be read with certainty is refused.
-- Not here: which accesses a shape makes (the checkpoint).

local byte, find = string.byte, string.find
local concat, sort = table.concat, table.sort
local refuse, malformed = refusal.refuse, refusal.malformed
local scan, scan_field, skip_varint = wire.scan, wire.scan_field, wire.skip_varint
local text, netstring, add_netstrings = wire.text, wire.netstring, wire.add_netstrings
local begin_request = wire.begin_request
local SPECS = messages

-- tests/conformance/test_limits.py holds these against settings.py, where the reasons stand.
local REQUEST_BYTES_MAX = 10485760
local COMMIT_BYTES_MAX = 104857600

local MUTATION_KINDS = { "insert", "update", "insert_or_update", "replace", "delete" }
local DELETE = 5

local function check_transaction_options(s, out)
  if not out then return end
  if out[1] and out[2] then malformed("a transaction has two modes") end
  if out[5] and not select(2, skip_varint(s, out[5], out[-5])) then
    refuse("unsupported-feature", "hiding writes from change streams (exclude_txn_from_change_streams) is not "
      .. "supported by this version of Spangate")
  end
end

local function check_transaction(s, out, number)
  local selector = scan_field(s, out, number, SPECS.TransactionSelector)
  if not selector then return end
  if (selector[1] and 1 or 0) + (selector[2] and 1 or 0) + (selector[3] and 1 or 0) > 1 then
    malformed("a transaction is selected twice")
  end
  out.selector = selector
  out.single = scan_field(s, selector, 1, SPECS.TransactionOptions)
  out.begins = scan_field(s, selector, 3, SPECS.TransactionOptions)
  check_transaction_options(s, out.single)
  check_transaction_options(s, out.begins)
end

local NAME = "[%w%._:%-]+"
local DATABASE = "^projects/" .. NAME .. "/instances/" .. NAME .. "/databases/" .. NAME .. "$"
local SESSION = "^(projects/" .. NAME .. "/instances/" .. NAME .. "/databases/" .. NAME .. ")/sessions/[%w%._~=:%-]+$"

local function database_of_session(s, out)
  local _, _, database = find(text(s, out, 1), SESSION)
  if not database then malformed("the session has no readable name") end
  return database
end

local function statement(s, out, sql, types)
  return netstring(text(s, out, sql)) .. netstring(concat(add_netstrings({}, s, out[types])))
end

-- The shapes that `read` gives of a MANY field's messages, each once, in the order of their first.
local function distinct(s, list, read)
  local seen, parts = {}, {}
  for i = 1, #list, 2 do
    local one = read(s, list[i], list[i + 1])
    if not seen[one] then
      seen[one] = true
      parts[#parts + 1] = one
    end
  end
  return parts
end

local function batch_statement(s, first, last)
  return statement(s, scan(s, first, last, SPECS["ExecuteBatchDmlRequest.Statement"], {}), 1, 3)
end

local function read_of(s, out)
  return concat(add_netstrings({ netstring(text(s, out, 3)), netstring(text(s, out, 4)) }, s, out[5]))
end

local function mutation(s, first, last)
  local out = scan(s, first, last, SPECS.Mutation, {})
  local kind
  for number = 1, DELETE do
    if out[number] then
      if kind then malformed("a mutation has two kinds") end
      kind = number
    end
  end
  if not kind then malformed("a mutation has no kind") end
  local spec = kind == DELETE and SPECS["Mutation.Delete"] or SPECS["Mutation.Write"]
  local write = scan_field(s, out, kind, spec)
  local parts = { netstring(MUTATION_KINDS[kind]), netstring(text(s, write, 1)) }
  if kind ~= DELETE then add_netstrings(parts, s, write[2]) end
  return netstring(concat(parts))
end

-- The set of a request's mutations, sorted, so that their number and order do not matter.
local function mutations(s, list)
  local parts = distinct(s, list, mutation)
  sort(parts)
  return concat(parts)
end

-- The RPCs: how each is scanned, its shape's last part, which field holds its request options, and what is appended.

local function plain() return "" end

local function sql_shape(s, out)
  check_transaction(s, out, 2)
  return statement(s, out, 3, 5)
end

local function read_shape(s, out)
  check_transaction(s, out, 2)
  return read_of(s, out)
end

local RPCS = {
  ExecuteSql = { spec = SPECS.ExecuteSqlRequest, shape = sql_shape, options = 11 },
  ExecuteStreamingSql = { spec = SPECS.ExecuteSqlRequest, shape = sql_shape, options = 11 },
  ExecuteBatchDml = {
    spec = SPECS.ExecuteBatchDmlRequest,
    shape = function(s, out)
      check_transaction(s, out, 2)
      return concat(distinct(s, out[3] or {}, batch_statement))
    end,
    options = 5,
  },
  Read = { spec = SPECS.ReadRequest, shape = read_shape, options = 11 },
  StreamingRead = { spec = SPECS.ReadRequest, shape = read_shape, options = 11 },
  BeginTransaction = {
    spec = SPECS.BeginTransactionRequest,
    shape = function(s, out)
      out.begins = scan_field(s, out, 2, SPECS.TransactionOptions)
      check_transaction_options(s, out.begins)
      return out[4] and mutations(s, { out[4], out[-4] }) or ""
    end,
    options = 3,
  },
  Commit = {
    spec = SPECS.CommitRequest,
    shape = function(s, out)
      if out[2] and out[3] then malformed("a transaction is selected twice") end
      out.single = scan_field(s, out, 3, SPECS.TransactionOptions)
      check_transaction_options(s, out.single)
      return mutations(s, out[4] or {})
    end,
    options = 6,
    bytes_max = COMMIT_BYTES_MAX,
    answer = "commit",
  },
  Rollback = { spec = SPECS.RollbackRequest, shape = plain },
  CreateSession = { spec = SPECS.CreateSessionRequest, shape = plain, creates = 2 },
  BatchCreateSessions = { spec = SPECS.BatchCreateSessionsRequest, shape = plain, creates = 2 },
  GetSession = { spec = SPECS.GetSessionRequest, shape = plain },
  DeleteSession = { spec = SPECS.DeleteSessionRequest, shape = plain },
}

-- What belongs to somebody in each RPC; one that does not stand here keeps the filter from loading.
--   session: whether field 1 names a session; `routes_by`: the word for field 1 in Google's routing header
--   seals: the hook (responses.lua) that seals what every answer gives out
--   begun: the hook for answers to requests that begin a transaction
--   id: whether field 2 is a transaction's id; otherwise a TransactionSelector
--   begins_within, single_within: the fields in which the options of a new transaction stand, those of a single use
--   token: the field of a partition token
local function selects(begun, token, seals)
  return {
    session = true, routes_by = "session", begun = begun, token = token, seals = seals,
    begins_within = { 2, 3 }, single_within = { 2, 1 },
  }
end
local OWNED = {
  ExecuteSql = selects("result", 8),
  ExecuteStreamingSql = selects("stream", 8),
  ExecuteBatchDml = selects("results"),
  Read = selects("result", 10),
  StreamingRead = selects("stream", 10),
  PartitionQuery = selects("partitions", nil, "partitions"),
  PartitionRead = selects("partitions", nil, "partitions"),
  BeginTransaction = { session = true, routes_by = "session", begun = "transaction", begins_within = { 2 } },
  Commit = { session = true, routes_by = "session", id = true, single_within = { 3 } },
  Rollback = { session = true, routes_by = "session", id = true },
  BatchWrite = { session = true, routes_by = "session" },
  GetSession = { session = true, routes_by = "name", seals = "session" },
  DeleteSession = { session = true, routes_by = "name" },
  CreateSession = { routes_by = "database", seals = "session" },
  BatchCreateSessions = { routes_by = "database", seals = "sessions" },
  ListSessions = { routes_by = "database", seals = "listed" },
  GetDatabaseDdl = {},
  UpdateDatabaseDdl = {},
  GetOperation = {},
}

local PATHS = {}
for name, rpc in pairs(RPCS) do
  rpc.name = name
  rpc.owned = OWNED[name] or error("whose the parts of " .. name .. " are is not said")
  rpc.prefix = netstring(name)
  PATHS["/google.spanner.v1.Spanner/" .. name] = rpc
end

local function database_of(s, out, rpc)
  if not rpc.creates then return database_of_session(s, out) end
  local database = text(s, out, 1)
  if not find(database, DATABASE) then malformed("the database has no readable name") end
  local session = scan_field(s, out, rpc.creates, SPECS.Session)
  out.multiplexed = session and session[6] and not select(2, skip_varint(s, session[6], session[-6]))
  return database
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

-- A request body -> its scanned fields, database and shape. Refuses what it cannot read.
local function read_request(body, rpc)
  begin_request()
  local out = scan(body, 6, message_end(body, rpc), rpc.spec, {})
  local database = database_of(body, out, rpc)
  out.options = rpc.options and scan_field(body, out, rpc.options, SPECS.RequestOptions)
  return out, database, rpc.prefix .. netstring(database) .. rpc.shape(body, out)
end

return {
  REQUEST_BYTES_MAX = REQUEST_BYTES_MAX,
  COMMIT_BYTES_MAX = COMMIT_BYTES_MAX,
  PATHS = PATHS,
  read_request = read_request,
}
