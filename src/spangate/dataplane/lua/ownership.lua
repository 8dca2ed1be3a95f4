-- Whose a request's session and transaction are: the sealed names and ids in it are opened, or the request is refused.
--
-- Rules: every request but the creation and listing of sessions names a session of the identity's own; a transaction id
-- or partition token that it names was given to the same identity in the same database. What Spanner gets are the raw
-- values, appended: the last one wins.
-- A session under a key that is no longer known is answered as Spanner answers for sessions that are gone, since clients
-- then make a new one; a transaction under such a key is ABORTED, since clients then begin it again.
-- Not here: sealing (responses.lua), the seals themselves (seal.lua).

local sub = string.sub
local refuse = refusal.refuse
local scan_field, text, encode_bytes = wire.scan_field, wire.text, wire.encode_bytes
local open_name, own, UNKNOWN_KEY = seal.open_name, seal.own, seal.UNKNOWN_KEY

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
  -- Without options Spanner begins nothing; should it ever, the id is sealed for nobody.
  BeginTransaction = {
    session = true, routes_by = "session", begun = "transaction", seals = "transaction", begins_within = { 2 },
  },
  Commit = { session = true, routes_by = "session", id = true, single_within = { 3 } },
  Rollback = { session = true, routes_by = "session", id = true },
  BatchWrite = { session = true, routes_by = "session" },
  GetSession = { session = true, routes_by = "name", seals = "session" },
  DeleteSession = { session = true, routes_by = "name" },
  CreateSession = { routes_by = "database", seals = "session" },
  BatchCreateSessions = { routes_by = "database", seals = "sessions" },
  ListSessions = { routes_by = "database", seals = "listed" },
  GetDatabase = {},
  GetDatabaseDdl = {},
  UpdateDatabaseDdl = {},
  GetOperation = {},
}

for _, rpc in pairs(rpcs.PATHS) do
  rpc.owned = OWNED[rpc.name] or error("whose the parts of " .. rpc.name .. " are is not said")
end

-- What Google's clients look for before they replace a session: the words, or the ResourceInfo beside them.
local NOT_FOUND, UNAVAILABLE = "5", "14"
local SESSION_TYPE = "type.googleapis.com/google.spanner.v1.Session"

local function session_is_gone(name)
  local message = "Session not found: " .. name
  -- google.rpc.ResourceInfo: resource_type 1, resource_name 2, description 4; google.rpc.Status: code 1, message 2,
  -- details 3, each a google.protobuf.Any: type_url 1, value 2.
  local info = encode_bytes(1, SESSION_TYPE) .. encode_bytes(2, name) .. encode_bytes(4, "Session does not exist.")
  local any = encode_bytes(1, "type.googleapis.com/google.rpc.ResourceInfo") .. encode_bytes(2, info)
  error({
    reason = "foreign-session",
    message = message,
    verbatim = true,
    status = NOT_FOUND,
    binary = {
      ["google.rpc.resourceinfo-bin"] = info,
      ["grpc-status-details-bin"] = "\8\5" .. encode_bytes(2, message) .. encode_bytes(3, any),
    },
  }, 0)
end

-- What the requests on a session have in common, made once for each session and kept with what was opened.
local function session_of(name, identity, database, owned)
  local entry = open_name(name, identity, database)
  if not entry then
    refuse("foreign-session", "this session was not made by this identity through this gateway; make one of its own, "
      .. "with CreateSession")
  end
  if entry == UNKNOWN_KEY then session_is_gone(name) end
  local params = owned.routes_by
  local found = entry[params]
  if not found then
    found = { append = encode_bytes(1, entry.raw), params = params .. "=" .. entry.raw }
    entry[params] = found
  end
  return found
end

local function kind_begun(options)
  if options[3] then return seal.PARTITIONED_DML end
  return options[2] and seal.READ_ONLY or seal.READ_WRITE
end

-- An id that an earlier attempt had, so that its next one does not lose its turn: `within` are the fields that hold the
-- options. One under a key that is no longer known is forgotten.
local function previous(found, body, options, identity, database, within)
  local read_write = options and scan_field(body, options, 1, messages["TransactionOptions.ReadWrite"])
  local sealed = read_write and text(body, read_write, 2) or ""
  if sealed == "" then return end
  local raw = ""
  if seal.open(sealed, identity, database) ~= UNKNOWN_KEY then
    local entry = own(sealed, identity, database, "previous transaction's id")
    if entry.kind == seal.PARTITION_TOKEN then refuse("foreign-transaction", "a partition token is no transaction") end
    raw = entry.raw
  end
  local append = encode_bytes(1, encode_bytes(2, raw))
  for i = #within, 1, -1 do append = encode_bytes(within[i], append) end
  found.append = found.append .. append
end

local function transaction(found, body, out, owned, identity, database)
  local id
  if owned.id then
    id = out[2] and text(body, out, 2)
  elseif out.selector then
    id = out.selector[2] and text(body, out.selector, 2)
  end
  if id then
    local entry = own(id, identity, database, "transaction")
    if entry.kind == seal.PARTITION_TOKEN then refuse("foreign-transaction", "a partition token is no transaction") end
    found.policy = entry.policy
    found.partitioned = entry.kind == seal.PARTITIONED_DML
    local append = encode_bytes(2, entry.raw)
    if not owned.id then append = encode_bytes(2, append) end
    found.append = found.append .. append
  end
  if out.single then previous(found, body, out.single, identity, database, owned.single_within) end
  if out.begins then
    previous(found, body, out.begins, identity, database, owned.begins_within)
    found.answer, found.kind = owned.begun, kind_begun(out.begins)
  end
end

-- Runs after the request has been read and the epoch is known, and before the decision is looked up. Returns what it
-- found:
--   append: bytes that are appended to the message
--   params: what Google's front end routes by, as the request says it, or nil
--   partitioned: true within a transaction of partitioned DML
--   policy: the policy version that the transaction's tag has had from its beginning
--   answer: the name of the hook that seals what Spanner's answer gives out (HOOKS in responses.lua)
--   kind: what kind of transaction the answer gives out
local function check(identity, rpc, body, out, database)
  if not seal.known() then
    refuse("checkpoint-unavailable", "the checkpoint does not answer, so nobody's session is known; try again",
      UNAVAILABLE)
  end
  local owned = rpc.owned
  if not owned.session then
    return { append = "", params = owned.routes_by and owned.routes_by .. "=" .. database, answer = owned.seals }
  end
  local session = session_of(text(body, out, 1), identity, database, owned)
  local token = owned.token and out[owned.token]
  local single = out.single and out.single[1]
  -- Most requests: a session, and a transaction of this one request.
  if not (token or single or out.begins or owned.seals or owned.id and out[2] or out.selector and out.selector[2]) then
    return session
  end
  local found = { append = session.append, params = session.params, answer = owned.seals }
  transaction(found, body, out, owned, identity, database)
  if token then
    local entry = own(sub(body, token, out[-owned.token]), identity, database, "partition token")
    if entry.kind ~= seal.PARTITION_TOKEN then refuse("foreign-transaction", "a transaction is no partition token") end
    found.append = found.append .. encode_bytes(owned.token, entry.raw)
  end
  return found
end

return { check = check }
