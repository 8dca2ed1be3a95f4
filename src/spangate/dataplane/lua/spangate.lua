-- The gate: what Envoy runs on every request to Spanner.
--
-- Rules:
--   1. This program never decides. It reads a request's shape, looks the decision up, and asks the checkpoint for one it
--      does not have. All meaning lives in the checkpoint.
--   2. Only an allowed request gets the metadata `spangate.allow`, and the RBAC filter behind this one passes nothing
--      without it. Envoy sends a request on when Lua fails; the guard is why a failure here refuses instead.
--   3. The body is believed, never the headers. What cannot be read with certainty is refused: an unknown RPC or field, a
--      field twice, a compressed message, a second message, an overlong number, a wrong wire type.
--   4. Rewriting is cut and append: a field appended to an encoded message overrides a scalar and merges into a message
--      (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
--   5. Results stream. Only the answer to Commit is read, for its timestamp.
-- Handles are dead after a yield (body, httpCall): they are taken again each time.
-- Not here: which accesses a statement makes, who may do what (the checkpoint); limits and the guard (compiler/gateway.py).

local bit = require("bit")
local band, rshift = bit.band, bit.rshift
local byte, sub, char, find, format = string.byte, string.sub, string.char, string.find, string.format
local concat, sort = table.concat, table.sort

local CHECKPOINT = "spangate_checkpoint" -- Envoy's cluster of that name
local METADATA = "spangate"

-- tests/conformance/test_limits.py holds these against settings.py, where the reasons stand.
local REQUEST_BYTES_MAX = 10485760
local COMMIT_BYTES_MAX = 104857600
local ENTRIES_MAX = 250000
local EPOCH_CHECK_MS = 500
local GRACE_MS = 5000
local CHECKPOINT_TIMEOUT_MS = 5000
local EPOCH_TIMEOUT_MS = 1000

-- Two generations of at most this many decisions and key bytes each: memory is bounded without counting uses.
local CACHE_ENTRIES_MAX = 10000
local CACHE_KEY_BYTES_MAX = 16777216

-- As long as the checkpoint's sentences are (MESSAGE_BYTES_MAX in decision/explain.py).
local MESSAGE_BYTES_MAX = 1024

local PERMISSION_DENIED, UNAVAILABLE = "7", "14"

-- Refusals ----------------------------------------------------------------------------------------------------------

-- Raised with error(), caught in one place: a table, so that it cannot be mistaken for a defect.
local function refuse(reason, message)
  error({ reason = reason, message = message }, 0)
end

local function malformed(message)
  refuse("malformed-request", message)
end

-- The first bytes of `message`, which is UTF-8 and stays it.
local function shortened(message, bytes_max)
  if #message <= bytes_max then return message end
  return (sub(message, 1, bytes_max):gsub("[\192-\255][\128-\191]*$", ""))
end

-- The first bytes of what a client wrote, fit for a log.
local function printable(value, bytes_max)
  return (sub(value, 1, bytes_max):gsub("[^!-~]", "?"))
end

-- Protobuf ----------------------------------------------------------------------------------------------------------

-- A tag or length at s[i..e]: its value and the position after it. Refused when it breaks off, exceeds 32 bits, or is
-- longer than it need be, which no encoder writes and decoders treat differently.
local function small_varint(s, i, e)
  local b = byte(s, i)
  if not b or i > e then malformed("the message breaks off") end
  if b < 128 then return b, i + 1 end
  local value, shift = b - 128, 128
  for _ = 2, 5 do
    i = i + 1
    b = byte(s, i)
    if not b or i > e then malformed("the message breaks off") end
    if b < 128 then
      if b == 0 then malformed("a number is encoded longer than it need be") end
      value = value + b * shift
      if value > 4294967295 then malformed("a tag or length is out of range") end
      return value, i + 1
    end
    value = value + (b - 128) * shift
    shift = shift * 128
  end
  malformed("a tag or length is out of range")
end

-- The position after a varint of up to 64 bits at s[i..e], and whether it is zero. Refused when it is longer than it
-- need be, so that zero is spelled in one way only.
local function skip_varint(s, i, e)
  for at = i, i + 9 do
    local b = byte(s, at)
    if not b or at > e then malformed("the message breaks off") end
    if b < 128 then
      if b == 0 and at > i then malformed("a number is encoded longer than it need be") end
      -- The tenth byte holds the 64th bit; decoders differ on anything above.
      if at == i + 9 and b > 1 then malformed("a number is out of range") end
      return at + 1, b == 0
    end
  end
  malformed("a number is out of range")
end

-- How fields are treated; the low three bits are the wire type that the field must have.
local NUMBER, BYTES = 0, 2
local ONCE = 0 -- may stand there once
local MANY = 8 -- may stand there often
local CUT = 16 -- a client must not control it: cut out
local DENY = 32 -- a feature that this version does not decide on: its presence refuses

-- Entries of fields that may stand there often, over all messages of the request at hand. An entry can be two bytes
-- long and costs twenty times that in memory: without a limit, one request could hold up a worker for seconds.
local entries = 0

-- One pass over the message s[i..e] by `spec` (field number -> treatment). What is found goes into `out`: for a field
-- that may stand once, out[number] and out[-number] are the first and last position of its payload; for MANY,
-- out[number] is a list of such pairs; out.cut lists the first and last positions of what is to be cut out.
local function scan(s, i, e, spec, out)
  while i <= e do
    local start = i
    local tag
    tag, i = small_varint(s, i, e)
    local number, wire_type = rshift(tag, 3), band(tag, 7)
    local treatment = spec[number]
    if not treatment then
      if not spec.others or (wire_type ~= NUMBER and wire_type ~= BYTES) then
        malformed("field " .. number .. " is not known to this version of Spangate")
      end
      treatment = MANY + wire_type
    end
    if wire_type ~= band(treatment, 7) then malformed("field " .. number .. " has the wire type " .. wire_type) end
    local first, last = i, nil
    if wire_type == BYTES then
      local length
      length, first = small_varint(s, i, e)
      last = first + length - 1
      if last > e then malformed("field " .. number .. " breaks off") end
      i = last + 1
    else
      i = skip_varint(s, i, e)
      last = i - 1
    end
    if treatment < MANY then
      if out[number] then malformed("field " .. number .. " is there twice") end
      out[number], out[-number] = first, last
    elseif treatment < CUT then
      entries = entries + 1
      if entries > ENTRIES_MAX then refuse("request-too-large", "more than " .. ENTRIES_MAX .. " entries of lists") end
      local list = out[number]
      if not list then
        list = {}
        out[number] = list
      end
      list[#list + 1] = first
      list[#list + 1] = last
    elseif treatment < DENY then
      if out[number] then malformed("field " .. number .. " is there twice") end
      out[number] = first
      local cut = out.cut
      if not cut then
        cut = {}
        out.cut = cut
      end
      cut[#cut + 1] = start
      cut[#cut + 1] = last
    else
      refuse("unsupported-feature", spec.denied[number] .. " is not supported by this version of Spangate")
    end
  end
  return out
end

local function scan_field(s, out, number, spec)
  local first = out[number]
  return first and scan(s, first, out[-number], spec, {})
end

local function text(s, out, number)
  local first = out[number]
  return first and sub(s, first, out[-number]) or ""
end

-- `value` as a netstring: no text can pass for two.
local function netstring(value)
  return #value .. ":" .. value .. ","
end

-- The payloads of a MANY field, each as a netstring, at the end of `parts`.
local function add_netstrings(parts, s, list)
  if not list then return parts end
  for i = 1, #list, 2 do parts[#parts + 1] = netstring(sub(s, list[i], list[i + 1])) end
  return parts
end

local function encode_varint(value)
  local bytes = ""
  while value >= 128 do
    bytes = bytes .. char(128 + value % 128)
    value = (value - value % 128) / 128
  end
  return bytes .. char(value)
end

local function encode_bytes(number, value)
  return encode_varint(number * 8 + BYTES) .. encode_varint(#value) .. value
end

-- Messages of google.spanner.v1: every field that Spanner's API has, by number. tests/conformance/test_fields.py holds
-- them against the published descriptors.

local SPECS = {
  ExecuteSqlRequest = {
    [1] = BYTES, [2] = BYTES, [3] = BYTES, [4] = BYTES, [5] = BYTES + MANY, [6] = BYTES, [7] = NUMBER,
    [8] = BYTES + DENY, [9] = NUMBER, [10] = BYTES, [11] = BYTES, [15] = BYTES, [16] = NUMBER, [17] = NUMBER,
    [18] = BYTES + CUT,
    denied = { [8] = "a partition token" },
  },
  ExecuteBatchDmlRequest = {
    [1] = BYTES, [2] = BYTES, [3] = BYTES + MANY, [4] = NUMBER, [5] = BYTES, [6] = NUMBER,
  },
  ["ExecuteBatchDmlRequest.Statement"] = { [1] = BYTES, [2] = BYTES, [3] = BYTES + MANY },
  ReadRequest = {
    [1] = BYTES, [2] = BYTES, [3] = BYTES, [4] = BYTES, [5] = BYTES + MANY, [6] = BYTES, [8] = NUMBER, [9] = BYTES,
    [10] = BYTES + DENY, [11] = BYTES, [14] = BYTES, [15] = NUMBER, [16] = NUMBER, [17] = NUMBER, [18] = BYTES + CUT,
    denied = { [10] = "a partition token" },
  },
  BeginTransactionRequest = { [1] = BYTES, [2] = BYTES, [3] = BYTES, [4] = BYTES, [5] = BYTES + CUT },
  CommitRequest = {
    [1] = BYTES, [2] = BYTES, [3] = BYTES, [4] = BYTES + MANY, [5] = NUMBER, [6] = BYTES, [8] = BYTES, [9] = BYTES,
    [10] = BYTES + CUT,
  },
  RollbackRequest = { [1] = BYTES, [2] = BYTES },
  CreateSessionRequest = { [1] = BYTES, [2] = BYTES },
  BatchCreateSessionsRequest = { [1] = BYTES, [2] = BYTES, [3] = NUMBER },
  GetSessionRequest = { [1] = BYTES },
  DeleteSessionRequest = { [1] = BYTES },
  Session = {
    [1] = BYTES, [2] = BYTES + MANY, [3] = BYTES, [4] = BYTES, [5] = BYTES, [6] = NUMBER,
  },
  TransactionSelector = { [1] = BYTES, [2] = BYTES, [3] = BYTES },
  TransactionOptions = {
    [1] = BYTES, [2] = BYTES, [3] = BYTES + DENY, [5] = NUMBER, [6] = NUMBER,
    denied = { [3] = "partitioned DML" },
  },
  RequestOptions = { [1] = NUMBER, [2] = BYTES, [3] = BYTES, [4] = BYTES + CUT },
  Mutation = {
    [1] = BYTES, [2] = BYTES, [3] = BYTES, [4] = BYTES, [5] = BYTES, [6] = BYTES + DENY, [7] = BYTES + DENY,
    denied = { [6] = "a queue mutation (send)", [7] = "a queue mutation (ack)" },
  },
  ["Mutation.Write"] = { [1] = BYTES, [2] = BYTES + MANY, [3] = BYTES + MANY },
  ["Mutation.Delete"] = { [1] = BYTES, [2] = BYTES },
}

local MUTATION_KINDS = { "insert", "update", "insert_or_update", "replace", "delete" }
local DELETE = 5

-- Checks that carry no shape ----------------------------------------------------------------------------------------

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
  check_transaction_options(s, scan_field(s, selector, 1, SPECS.TransactionOptions))
  check_transaction_options(s, scan_field(s, selector, 3, SPECS.TransactionOptions))
end

-- Shapes: what a decision can depend on. Encoded as netstrings; spangate/rpc/shape.py reads them. -------------------

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
      check_transaction_options(s, scan_field(s, out, 2, SPECS.TransactionOptions))
      return out[4] and mutations(s, { out[4], out[-4] }) or ""
    end,
    options = 3,
  },
  Commit = {
    spec = SPECS.CommitRequest,
    shape = function(s, out)
      if out[2] and out[3] then malformed("a transaction is selected twice") end
      check_transaction_options(s, scan_field(s, out, 3, SPECS.TransactionOptions))
      return mutations(s, out[4] or {})
    end,
    options = 6,
    bytes_max = COMMIT_BYTES_MAX,
    receipt = true,
  },
  Rollback = { spec = SPECS.RollbackRequest, shape = plain },
  CreateSession = { spec = SPECS.CreateSessionRequest, shape = plain, creates = 2 },
  BatchCreateSessions = { spec = SPECS.BatchCreateSessionsRequest, shape = plain, creates = 2 },
  GetSession = { spec = SPECS.GetSessionRequest, shape = plain },
  DeleteSession = { spec = SPECS.DeleteSessionRequest, shape = plain },
}

local PATHS = {}
for name, rpc in pairs(RPCS) do
  rpc.name = name
  rpc.prefix = netstring(name)
  PATHS["/google.spanner.v1.Spanner/" .. name] = rpc
end

local function database_of(s, out, rpc)
  if not rpc.creates then return database_of_session(s, out) end
  local database = text(s, out, 1)
  if not find(database, DATABASE) then malformed("the database has no readable name") end
  scan_field(s, out, rpc.creates, SPECS.Session)
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
  entries = 0
  local out = scan(body, 6, message_end(body, rpc), rpc.spec, {})
  local database = database_of(body, out, rpc)
  out.options = rpc.options and scan_field(body, out, rpc.options, SPECS.RequestOptions)
  return out, database, rpc.prefix .. netstring(database) .. rpc.shape(body, out)
end

-- Rewriting ---------------------------------------------------------------------------------------------------------

local function without(s, first, last, cut)
  local parts = {}
  for i = 1, #cut, 2 do
    parts[#parts + 1] = sub(s, first, cut[i] - 1)
    first = cut[i + 1] + 1
  end
  parts[#parts + 1] = sub(s, first, last)
  return concat(parts)
end

-- The body that is sent on: with the role on created sessions and the tag on everything that takes one, and without
-- what a client must not control.
local function rewrite(body, out, rpc, decision)
  local append = ""
  -- At most two pairs of positions: the one field of a request that is cut (routing_hint), and the request options.
  local cut = out.cut
  if rpc.creates then
    append = encode_bytes(rpc.creates, encode_bytes(5, decision.role))
  elseif rpc.options then
    local kept = ""
    if out.options and out.options.cut then
      -- client_context holds secure_context, which says who the user is: the whole message is built anew.
      local first, last = out[rpc.options], out[-rpc.options]
      kept = without(body, first, last, out.options.cut)
      -- Before the payload stand its tag (one byte for a number below 16) and its length.
      first = first - 1 - #encode_varint(last - first + 1)
      if not cut then
        cut = { first, last }
      elseif first < cut[1] then
        cut = { first, last, cut[1], cut[2] }
      else
        cut = { cut[1], cut[2], first, last }
      end
    end
    append = encode_bytes(rpc.options, kept .. encode_bytes(3, decision.tag))
  end
  if append == "" and not cut then return nil end
  local message = cut and without(body, 6, #body, cut) or sub(body, 6)
  local n = #message + #append
  return char(0, rshift(n, 24), band(rshift(n, 16), 255), band(rshift(n, 8), 255), band(n, 255)) .. message .. append
end

-- Decisions: a cache of this worker, valid for one epoch ------------------------------------------------------------

local state = {
  epoch = nil, -- the policy version that the cached decisions were made under
  verified_at = -1e18, -- when the checkpoint last confirmed it, ms
  check_at = -1e18, -- when to ask again, ms
  young = {}, -- identity and shape -> decision
  old = {},
  entries = 0,
  key_bytes = 0,
}

local function forget()
  state.young, state.old, state.entries, state.key_bytes = {}, {}, 0, 0
end

local function remember(key, decision)
  if #key > CACHE_KEY_BYTES_MAX / 16 then return end
  if state.entries >= CACHE_ENTRIES_MAX or state.key_bytes + #key > CACHE_KEY_BYTES_MAX then
    state.old, state.young, state.entries, state.key_bytes = state.young, {}, 0, 0
  end
  state.young[key] = decision
  state.entries = state.entries + 1
  state.key_bytes = state.key_bytes + #key
end

local function recall(key)
  local decision = state.young[key]
  if decision then return decision end
  decision = state.old[key]
  if decision then remember(key, decision) end
  return decision
end

-- A header of the checkpoint's answer; nil if it is missing or empty.
local function said(headers, name)
  local value = headers[name]
  return value ~= "" and value or nil
end

local function clock(handle)
  return tonumber(handle:timestamp())
end

-- Asks the checkpoint for its epoch, at most each EPOCH_CHECK_MS; one request at a time pays for it. Yields. Returns
-- the time, which has passed if it asked.
local function refresh(handle)
  local now = clock(handle)
  -- Earlier than the last check only when the clock was set back: then what is known of the epoch is void.
  if now < state.check_at and now >= state.check_at - EPOCH_CHECK_MS then return now end
  state.check_at = now + EPOCH_CHECK_MS
  local headers = handle:httpCall(
    CHECKPOINT,
    { [":method"] = "GET", [":path"] = "/epoch", [":authority"] = CHECKPOINT },
    nil,
    EPOCH_TIMEOUT_MS
  )
  local epoch = headers[":status"] == "200" and said(headers, "x-spangate-epoch")
  if epoch then
    if epoch ~= state.epoch then
      forget()
      state.epoch = epoch
    end
    -- From before the call: the answer says what held at some moment after it.
    state.verified_at = now
  end
  return clock(handle)
end

-- The checkpoint's decision, or nil if it gives none. Yields.
local function ask(handle, identity, shape, key, now)
  local headers, message = handle:httpCall(
    CHECKPOINT,
    {
      [":method"] = "POST",
      [":path"] = "/decide",
      [":authority"] = CHECKPOINT,
      ["x-spangate-identity"] = identity,
    },
    shape,
    CHECKPOINT_TIMEOUT_MS
  )
  local verdict, id = headers["x-spangate-decision"], said(headers, "x-spangate-id")
  local epoch = said(headers, "x-spangate-epoch")
  if headers[":status"] ~= "200" or not id or not epoch then return nil end
  local decision
  if verdict == "allow" then
    -- An empty role would create sessions without one, an empty tag receipts of nobody.
    local role, tag = said(headers, "x-spangate-role"), said(headers, "x-spangate-tag")
    if not role or not tag then return nil end
    decision = { allowed = true, id = id, role = role, tag = tag }
  elseif verdict == "deny" then
    local reason = said(headers, "x-spangate-reason")
    if not reason then return nil end
    decision = { allowed = false, id = id, reason = reason, message = shortened(message or "", MESSAGE_BYTES_MAX) }
  else
    return nil
  end
  if not state.epoch then state.epoch = epoch end
  if epoch == state.epoch then
    state.verified_at = now > state.verified_at and now or state.verified_at
    remember(key, decision)
  else
    -- Made under another policy than the cache: good for this request only, and time to look.
    state.check_at = -1e18
  end
  return decision
end

-- Answers -----------------------------------------------------------------------------------------------------------

-- Percent-encoding of grpc-message (gRPC over HTTP2: "unreserved" is 0x20 to 0x7E without `%`).
local function percent_encode(message)
  return (message:gsub("[^ -$&-~]", function(c) return format("%%%02X", byte(c)) end))
end

local function answer(handle, status, reason, id, message)
  message = shortened(message, MESSAGE_BYTES_MAX)
  local metadata = handle:streamInfo():dynamicMetadata()
  metadata:set(METADATA, "deny", id and reason .. " " .. id or reason)
  -- A recorded decision says itself what there is to say.
  if not id then metadata:set(METADATA, "detail", message) end
  handle:respond({
    [":status"] = "200",
    ["content-type"] = "application/grpc",
    ["grpc-status"] = status,
    ["grpc-message"] = percent_encode(message),
  }, "")
end

local function answer_refusal(handle, refusal)
  if type(refusal) ~= "table" then
    handle:logErr("spangate: " .. tostring(refusal))
    return answer(handle, PERMISSION_DENIED, "filter-failed", nil,
      "spangate: the gateway failed on this request and refuses it; its log says why")
  end
  answer(handle, PERMISSION_DENIED, refusal.reason, nil, "spangate: " .. refusal.message)
end

-- The peer's SPIFFE ID from its verified certificate. Refuses anything else.
local function peer(handle)
  local connection = handle:streamInfo():downstreamSslConnection()
  if not connection or not connection:peerCertificatePresented() then
    refuse("no-certificate", "no client certificate: Spangate lets in only workloads with an X.509-SVID; "
      .. "start the program with `spangate run --as <identity> -- <command>`")
  end
  local uris = connection:uriSanPeerCertificate()
  if not connection:peerCertificateValidated() then
    refuse("untrusted-certificate", "the client certificate of " .. printable(uris[1] or "nobody", 256)
      .. " is not accepted: it has ended, or comes from another authority or trust domain than this gateway's")
  end
  -- Envoy verifies at the handshake, but a connection may outlive its certificate. The gateway closes connections long
  -- before a renewed one would be seen here as ended (CONNECTION_SECONDS_MAX in compiler/gateway.py).
  if clock(handle) >= connection:expirationPeerCertificate() * 1000 then
    refuse("untrusted-certificate", "the client certificate of " .. printable(uris[1] or "nobody", 256)
      .. " has ended since this connection was opened; connect again with a new one")
  end
  if #uris ~= 1 then refuse("untrusted-certificate", "the client certificate must have exactly one URI name") end
  -- It becomes a header's value and part of a key. A SPIFFE ID has no other characters.
  if not find(uris[1], "^spiffe://[%w%._/-]+$") then
    refuse("untrusted-certificate", "the client certificate's URI name is not a SPIFFE ID")
  end
  return uris[1]
end

local function prepare(handle)
  local headers = handle:headers()
  local path = headers:get(":path") or ""
  local rpc = PATHS[path]
  if not rpc then
    refuse("unsupported-rpc", printable(path, 100) .. " is not supported by this version of Spangate; refused")
  end
  if headers:get(":method") ~= "POST" then malformed("a gRPC request has the method POST") end
  -- Others (application/grpc-web, application/grpc+json) say that the body is not what this program reads.
  local content_type = headers:get("content-type")
  if content_type ~= "application/grpc" and content_type ~= "application/grpc+proto" then
    malformed("the content type is not application/grpc")
  end
  return rpc
end

function envoy_on_request(handle)
  local known, identity = pcall(peer, handle)
  if not known then return answer_refusal(handle, identity) end
  local prepared, rpc = pcall(prepare, handle)
  local buffer = handle:body()
  if not prepared then return answer_refusal(handle, rpc) end

  local body = buffer and buffer:getBytes(0, buffer:length()) or ""
  local readable, out, database, shape = pcall(read_request, body, rpc)
  if not readable then return answer_refusal(handle, out) end

  local now = refresh(handle)
  local key = identity .. "\n" .. shape
  local decision = recall(key)
  -- A clock that was set back must not prolong anything.
  if not decision or now - state.verified_at > GRACE_MS or now < state.verified_at then
    decision = ask(handle, identity, shape, key, now)
  end
  if not decision then
    return answer(handle, UNAVAILABLE, "checkpoint-unavailable", nil,
      "spangate: the checkpoint does not answer, so nothing can be decided; try again")
  end
  if not decision.allowed then
    return answer(handle, PERMISSION_DENIED, decision.reason, decision.id, decision.message or "")
  end

  local readable_options, rewritten = pcall(rewrite, body, out, rpc, decision)
  if not readable_options then return answer_refusal(handle, rewritten) end
  if rewritten then handle:body():setBytes(rewritten) end
  local headers = handle:headers()
  local prefix = headers:get("google-cloud-resource-prefix")
  if prefix and prefix ~= database then headers:replace("google-cloud-resource-prefix", database) end
  local metadata = handle:streamInfo():dynamicMetadata()
  if rpc.receipt then
    -- A compressed answer could not be read.
    headers:remove("grpc-accept-encoding")
    metadata:set(METADATA, "receipt", "commit")
  end
  metadata:set(METADATA, "allow", decision.id)
end

-- Receipts ----------------------------------------------------------------------------------------------------------

-- `others`: an answer is read, not judged; fields that Spanner adds one day are passed over.
local COMMIT_RESPONSE = {
  [1] = BYTES, [2] = BYTES, [4] = BYTES, [5] = BYTES, [6] = BYTES, [7] = NUMBER, [8] = NUMBER,
  others = true,
}
local TIMESTAMP = { [1] = NUMBER, [2] = NUMBER }

local function number_at(s, out, number)
  local value, factor = 0, 1
  if out[number] then
    for i = out[number], out[-number] do
      value = value + band(byte(s, i), 127) * factor
      factor = factor * 128
    end
  end
  return value
end

-- `seconds.nanoseconds` of a CommitResponse in a gRPC body; nil if it has none. With a precommit token nothing is
-- committed yet: the client commits again.
local function commit_timestamp(body)
  local flag, a, b, c, d = byte(body, 1, 5)
  if flag ~= 0 or not d then return nil end
  local last = 5 + ((a * 256 + b) * 256 + c) * 256 + d
  if last > #body then return nil end
  entries = 0
  local out = scan(body, 6, last, COMMIT_RESPONSE, {})
  local moment = scan_field(body, out, 1, TIMESTAMP)
  if not moment or out[4] then return nil end
  return format("%d.%09d", number_at(body, moment, 1), number_at(body, moment, 2))
end

function envoy_on_response(handle)
  local metadata = handle:streamInfo():dynamicMetadata():get(METADATA)
  if not metadata or metadata.receipt ~= "commit" then return end
  local buffer = handle:body()
  if not buffer then return end
  local readable, moment = pcall(commit_timestamp, buffer:getBytes(0, buffer:length()))
  if readable and moment then handle:streamInfo():dynamicMetadata():set(METADATA, "commit", moment) end
end

-- For the tests; Envoy ignores it.
return {
  specs = SPECS,
  answers = { CommitResponse = COMMIT_RESPONSE, Timestamp = TIMESTAMP },
  paths = PATHS,
  limits = {
    request_bytes_max = REQUEST_BYTES_MAX,
    commit_bytes_max = COMMIT_BYTES_MAX,
    entries_max = ENTRIES_MAX,
    epoch_check_ms = EPOCH_CHECK_MS,
    grace_ms = GRACE_MS,
    checkpoint_timeout_ms = CHECKPOINT_TIMEOUT_MS,
    epoch_timeout_ms = EPOCH_TIMEOUT_MS,
    message_bytes_max = MESSAGE_BYTES_MAX,
    cache_entries_max = CACHE_ENTRIES_MAX,
    cache_key_bytes_max = CACHE_KEY_BYTES_MAX,
  },
  read_request = read_request,
  rewrite = rewrite,
  commit_timestamp = commit_timestamp,
  state = state,
}
