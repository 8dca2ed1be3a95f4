-- What is done with Spanner's answers. Results stream; an answer is read only where a hook wants it.
--
-- A request is marked with its hook's name, in the dynamic metadata `answer`, and where something is to be sealed, with
-- `seal`: for whom. A hook takes the handle and the metadata of Spangate's namespace.
-- Rules: names, ids and tokens leave sealed, each in its place. An answer that cannot be read is withheld: its body is
-- dropped and its status becomes INTERNAL. Of a stream only the beginning is held back, until the message with the
-- metadata is complete.
-- Not here: which answers are to be read (ownership.lua, shape.lua).

local bit = require("bit")
local band, rshift = bit.band, bit.rshift
local byte, sub, char, find = string.byte, string.sub, string.char, string.find
local concat = table.concat
local small_varint, skip_varint, encode_bytes = wire.small_varint, wire.skip_varint, wire.encode_bytes
local seal_value, seal_name = seal.seal, seal.seal_name
local policy_of, OWNER_LABEL, OWNER_PREFIX = rewrite.policy_of, shape.OWNER_LABEL, rewrite.OWNER_PREFIX
local commit_timestamp = receipts.commit_timestamp
local METADATA = answers.METADATA

-- A first message of a stream is some 1 MiB at most (measured with the emulator); this bounds what a worker holds.
local HELD_BYTES_MAX = 16777216
local FIXED_BYTES = { [1] = 8, [5] = 4 }
local INTERNAL = "13"
local WITHHELD = "spangate: Spanner's answer could not be read, so it is withheld; the gateway's log says why"

-- Reading answers: by field, in the order they stand; fields that Spanner adds one day are passed over. -------------

-- The field at s[i..e]: its number, the first and last position of its payload, and the position after it. A number that
-- is no message or text has no payload.
local function field_at(s, i, e)
  local tag
  tag, i = small_varint(s, i, e)
  local number, wire_type = rshift(tag, 3), band(tag, 7)
  if wire_type == wire.NUMBER then return number, nil, nil, (skip_varint(s, i, e)) end
  local length = FIXED_BYTES[wire_type]
  if wire_type == wire.BYTES then
    length, i = small_varint(s, i, e)
  elseif not length then
    error("an answer has the wire type " .. wire_type)
  end
  local last = i + length - 1
  if last > e then error("an answer breaks off") end
  if wire_type ~= wire.BYTES then return number, nil, nil, last + 1 end
  return number, i, last, last + 1
end

-- The first and last position of field `wanted` of the message s[i..e], or nil.
local function field_of(s, i, e, wanted)
  local found_first, found_last
  while i <= e do
    local number, first, last
    number, first, last, i = field_at(s, i, e)
    if number == wanted and first then
      if found_first then error("an answer has a field twice") end
      found_first, found_last = first, last
    end
  end
  return found_first, found_last
end

-- The message s[i..e] with each payload of field `wanted` replaced by what `change` makes of it (nil cuts it out), and how
-- many there were. In place: not every client's decoder merges a message that is there twice (protobuf.js does not).
local function changed(s, i, e, wanted, change)
  local parts, kept, count = {}, i, 0
  while i <= e do
    local start = i
    local number, first, last
    number, first, last, i = field_at(s, i, e)
    if number == wanted and first then
      parts[#parts + 1] = sub(s, kept, start - 1)
      local payload = change(s, first, last)
      if payload then parts[#parts + 1] = encode_bytes(wanted, payload) end
      kept, count = i, count + 1
    end
  end
  parts[#parts + 1] = sub(s, kept, e)
  return concat(parts), count
end

-- The same of a field that may stand there once.
local function changed_once(s, i, e, wanted, change)
  local message, count = changed(s, i, e, wanted, change)
  if count > 1 then error("an answer has a field twice") end
  return message, count == 1
end

-- For whom ----------------------------------------------------------------------------------------------------------

-- The metadata `seal` of an allowed request, and back.
local function seal_for(found, identity, database, decision)
  return concat({ found.kind or "-", policy_of(decision.tag), decision.owner, identity, database }, "\n")
end

local function holder(metadata)
  local _, _, kind, policy, owner, identity, database =
    find(metadata.seal, "^(.)\n(%x+)\n([^\n]+)\n([^\n]+)\n([^\n]+)$")
  return { kind = kind, policy = policy, owner = owner, identity = identity, database = database }
end

-- What is sealed: each takes a message s[i..e] and its holder, and returns the message as it is sent on. -------------

-- Transaction: id 1.
local function transaction(s, i, e, to)
  return (changed_once(s, i, e, 1, function(_, first, last)
    if last < first then return "" end
    return seal_value(to.kind, to.policy, to.identity, to.database, sub(s, first, last))
  end))
end

-- ResultSet and PartialResultSet: metadata 1 {transaction 2 {id 1}}. Also whether there is metadata.
local function result(s, i, e, to)
  return changed_once(s, i, e, 1, function(_, first, last)
    return (changed_once(s, first, last, 2, function(_, from, till) return transaction(s, from, till, to) end))
  end)
end

-- Session: name 1.
local function session(s, i, e, to)
  local message, named = changed_once(s, i, e, 1, function(_, first, last)
    local name = sub(s, first, last)
    if sub(name, 1, #to.database + 10) ~= to.database .. "/sessions/" then error("a session of another database") end
    return seal_name(to.identity, to.database, name)
  end)
  if not named then error("a session without a name") end
  return message
end

-- Whether the session s[i..e] has the label of its holder. Of two entries of one key, the last one counts.
local function is_own(s, i, e, to)
  local own = false
  while i <= e do
    local number, first, last
    number, first, last, i = field_at(s, i, e)
    if number == 2 and first then
      local key_first, key_last = field_of(s, first, last, 1)
      if key_first and sub(s, key_first, key_last) == OWNER_LABEL then
        local value_first, value_last = field_of(s, first, last, 2)
        own = value_first ~= nil and sub(s, value_first, value_last) == OWNER_PREFIX .. to.owner
      end
    end
  end
  return own
end

local MESSAGES = {
  transaction = transaction,
  result = result,
  session = session,
  -- BatchCreateSessionsResponse: session 1.
  sessions = function(s, i, e, to)
    return changed(s, i, e, 1, function(_, first, last) return session(s, first, last, to) end)
  end,
  -- ListSessionsResponse: sessions 1.
  listed = function(s, i, e, to)
    return changed(s, i, e, 1, function(_, first, last)
      return is_own(s, first, last, to) and session(s, first, last, to) or nil
    end)
  end,
  -- ExecuteBatchDmlResponse: result_sets 1.
  results = function(s, i, e, to)
    return changed(s, i, e, 1, function(_, first, last) return (result(s, first, last, to)) end)
  end,
  -- PartitionResponse: partitions 1 {partition_token 1}, transaction 2.
  partitions = function(s, i, e, to)
    local message = changed(s, i, e, 1, function(_, first, last)
      return (changed_once(s, first, last, 1, function(_, from, till)
        return seal_value(seal.PARTITION_TOKEN, to.policy, to.identity, to.database, sub(s, from, till))
      end))
    end)
    return (changed_once(message, 1, #message, 2, function(m, first, last) return transaction(m, first, last, to) end))
  end,
}

-- Hooks -------------------------------------------------------------------------------------------------------------

-- The length of the gRPC message whose first five bytes these are.
local function message_length(head)
  local flag, a, b, c, d = byte(head, 1, 5)
  if flag ~= 0 then error("an answer is compressed") end
  local length = ((a * 256 + b) * 256 + c) * 256 + d
  if length > HELD_BYTES_MAX then error("an answer is larger than what may be held back") end
  return length
end

local function framed(message)
  local n = #message
  return char(0, rshift(n, 24), band(rshift(n, 16), 255), band(rshift(n, 8), 255), band(n, 255)) .. message
end

local function withhold(handle, why)
  handle:logErr("spangate: an answer is withheld: " .. (type(why) == "table" and why.message or tostring(why)))
  local trailers = handle:trailers()
  if not trailers then return end
  trailers:replace("grpc-status", INTERNAL)
  trailers:replace("grpc-message", WITHHELD)
end

local HOOKS = {}

function HOOKS.commit(handle)
  local buffer = handle:body()
  if not buffer then return end
  local readable, moment = pcall(commit_timestamp, buffer:getBytes(0, buffer:length()))
  if readable and moment then handle:streamInfo():dynamicMetadata():set(METADATA, "commit", moment) end
end

local function sealed_unary(body, seal_message, metadata)
  if #body < 5 or message_length(body) ~= #body - 5 then error("an answer is not exactly one message") end
  return framed((seal_message(body, 6, #body, holder(metadata))))
end

for name, seal_message in pairs(MESSAGES) do
  HOOKS[name] = function(handle, metadata)
    local buffer = handle:body()
    if not buffer or buffer:length() == 0 then return end
    local readable, body = pcall(sealed_unary, buffer:getBytes(0, buffer:length()), seal_message, metadata)
    buffer:setBytes(readable and body or "")
    if not readable then withhold(handle, body) end
  end
end

-- The bytes of a stream from its beginning: what can be sent on, what has to wait, and whether all is done.
local function sealed_beginning(held, to)
  local out = {}
  while #held >= 5 do
    local size = 5 + message_length(held)
    if #held < size then return concat(out), held, false end
    local message, done = result(held, 6, size, to)
    out[#out + 1] = framed(message)
    held = sub(held, size + 1)
    if done then return concat(out) .. held, "", true end
  end
  return concat(out), held, false
end

function HOOKS.stream(handle, metadata)
  local to = holder(metadata)
  local parts, size, needed, failure = {}, 0, 5, nil
  for chunk in handle:bodyChunks() do
    local length = chunk:length()
    local send = ""
    if not failure then
      parts[#parts + 1] = chunk:getBytes(0, length)
      size = size + length
      if size >= needed then
        local readable, sendable, held, done = pcall(sealed_beginning, concat(parts), to)
        if not readable then
          failure = sendable
        elseif done then
          chunk:setBytes(sendable)
          return
        else
          send, parts, size = sendable, { held }, #held
          needed = size < 5 and 5 or 5 + message_length(held)
        end
      end
    end
    chunk:setBytes(send)
  end
  if failure then withhold(handle, failure) end
end

return { HOOKS = HOOKS, seal_for = seal_for }
