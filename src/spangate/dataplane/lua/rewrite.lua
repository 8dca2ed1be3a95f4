-- Rewriting: cut and append. A field appended to an encoded message overrides a scalar, merges into a message and extends
-- a list or map (https://protobuf.dev/programming-guides/encoding/#last-one-wins).
--
-- What is forced: on created sessions their role and whose they are; on everything that takes request options the
-- transaction tag, and where the policy wants it the identity in Spanner's secure context. What a client must not
-- control is cut out: routing_hint, and client_context, which holds the secure context.

local bit = require("bit")
local band, rshift = bit.band, bit.rshift
local sub, char = string.sub, string.char
local text = wire.text
local encode_varint, encode_bytes, without = wire.encode_varint, wire.encode_bytes, wire.without

-- Spanner cuts a longer one (https://cloud.google.com/spanner/docs/introspection/troubleshooting-with-tags).
local TAG_CHARACTERS_MAX = 50
-- The key of the secure context's entry; SECURE_CONTEXT('spangate_identity') reads it in a statement.
local CONTEXT_KEY = "spangate_identity"

-- The policy version in a tag: `sg:<identity key, 13>:<policy version, 12 hex digits>`.
local POLICY_FIRST, POLICY_LAST = 18, 29
-- By the label of a session ListSessions tells whose it is. A label's value begins with a letter.
local OWNER_PREFIX = "i"

local function policy_of(tag)
  return sub(tag, POLICY_FIRST, POLICY_LAST)
end

-- Session{creator_role = 5, labels = 2 {key = 1, value = 2}}. Spanner refuses labels on multiplexed sessions, which it
-- does not list either.
local function session(decision, multiplexed)
  local role = encode_bytes(5, decision.role)
  if multiplexed then return role end
  local label = encode_bytes(1, shape.OWNER_LABEL) .. encode_bytes(2, OWNER_PREFIX .. decision.owner)
  return encode_bytes(2, label) .. role
end

-- RequestOptions{transaction_tag = 3, client_context = 4 {secure_context = 1 {key = 1, value = 2 {string_value = 3}}}}
local function request_options(decision, tag)
  local found = encode_bytes(3, tag)
  if decision.context then
    local entry = encode_bytes(1, CONTEXT_KEY) .. encode_bytes(2, encode_bytes(3, decision.context))
    found = found .. encode_bytes(4, encode_bytes(1, entry))
  end
  return found
end

-- The transaction tag: under the policy version that the transaction has had from its beginning, followed by the
-- application's own where the policy keeps it.
local function tag_of(body, out, decision, found)
  local tag = decision.tag
  if found.policy and found.policy ~= policy_of(tag) then
    tag = sub(tag, 1, POLICY_FIRST - 1) .. found.policy .. sub(tag, POLICY_LAST + 1)
  end
  local own = decision.keeps_tags and out.options and text(body, out.options, 3) or ""
  if own == "" then return tag end
  -- Spanner takes printable ASCII only.
  return sub(tag .. ":" .. own:gsub("[^ -~]", "_"), 1, TAG_CHARACTERS_MAX)
end

-- What is appended to every request with this decision, if nothing but the decision says what.
local function usual(rpc, decision)
  return rpc.options and encode_bytes(rpc.options, request_options(decision, decision.tag)) or ""
end

-- The body that is sent on; nil if it is the one that came.
local function rewrite(body, out, rpc, decision, found)
  -- At most two pairs of positions: the one field of a request that is cut (routing_hint), and the request options.
  local cut = out.cut
  local append = decision.append
  if not append then
    append = usual(rpc, decision)
    decision.append = append
  end
  local options = out.options
  local cut_options = options and options.cut
  if cut_options then
    -- They are built anew, without what was cut out of them.
    local number = rpc.options
    local first, last = out[number], out[-number]
    local kept = without(body, first, last, cut_options)
    append = encode_bytes(number, kept .. request_options(decision, tag_of(body, out, decision, found)))
    -- Before the payload stand its tag (one byte for a number below 16) and its length.
    first = first - 1 - #encode_varint(last - first + 1)
    if not cut then
      cut = { first, last }
    elseif first < cut[1] then
      cut = { first, last, cut[1], cut[2] }
    else
      cut = { cut[1], cut[2], first, last }
    end
  elseif rpc.creates then
    append = encode_bytes(rpc.creates, session(decision, out.multiplexed))
  elseif rpc.options and (decision.keeps_tags or found.policy) then
    append = encode_bytes(rpc.options, request_options(decision, tag_of(body, out, decision, found)))
  end
  append = append .. found.append
  if append == "" and not cut then return nil end
  local message = cut and without(body, 6, #body, cut) or sub(body, 6)
  local n = #message + #append
  return char(0, rshift(n, 24), band(rshift(n, 16), 255), band(rshift(n, 8), 255), band(n, 255)) .. message .. append
end

return {
  OWNER_PREFIX = OWNER_PREFIX,
  policy_of = policy_of,
  rewrite = rewrite,
}
