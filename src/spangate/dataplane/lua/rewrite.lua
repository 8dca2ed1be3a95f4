-- Rewriting: cut and append. A field appended to an encoded message overrides a scalar and merges into a message
-- (https://protobuf.dev/programming-guides/encoding/#last-one-wins).

local bit = require("bit")
local band, rshift = bit.band, bit.rshift
local sub, char = string.sub, string.char
local encode_varint, encode_bytes, without = wire.encode_varint, wire.encode_bytes, wire.without

-- By this label of a session ListSessions tells whose it is. A label's value begins with a letter.
local OWNER_LABEL, OWNER_PREFIX = "spangate-owner", "i"
-- The policy version in a tag: `sg:<identity key, 13>:<policy version, 12 hex digits>`.
local POLICY_FIRST, POLICY_LAST = 18, 29

local function policy_of(tag)
  return sub(tag, POLICY_FIRST, POLICY_LAST)
end

-- The tag of a transaction says the policy version under which it began, on all of its requests.
local function tag_of(decision, found)
  local tag = decision.tag
  if not found.policy or found.policy == policy_of(tag) then return tag end
  return sub(tag, 1, POLICY_FIRST - 1) .. found.policy .. sub(tag, POLICY_LAST + 1)
end

-- The body that is sent on: with the role on created sessions and the tag on everything that takes one, and without
-- what a client must not control.
local function rewrite(body, out, rpc, decision, found)
  local append = found.append
  -- At most two pairs of positions: the one field of a request that is cut (routing_hint), and the request options.
  local cut = out.cut
  if rpc.creates then
    -- Spanner refuses labels on multiplexed sessions, which it does not list either.
    local label = out.multiplexed and ""
      or encode_bytes(2, encode_bytes(1, OWNER_LABEL) .. encode_bytes(2, OWNER_PREFIX .. decision.owner))
    append = append .. encode_bytes(rpc.creates, label .. encode_bytes(5, decision.role))
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
    append = append .. encode_bytes(rpc.options, kept .. encode_bytes(3, tag_of(decision, found)))
  end
  if append == "" and not cut then return nil end
  local message = cut and without(body, 6, #body, cut) or sub(body, 6)
  local n = #message + #append
  return char(0, rshift(n, 24), band(rshift(n, 16), 255), band(rshift(n, 8), 255), band(n, 255)) .. message .. append
end

return {
  OWNER_LABEL = OWNER_LABEL,
  OWNER_PREFIX = OWNER_PREFIX,
  policy_of = policy_of,
  rewrite = rewrite,
}
