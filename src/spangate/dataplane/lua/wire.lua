-- Protobuf on the wire: reading a message by a table of its fields, and the pieces that rewriting needs.
--
-- Rules: strict. A field that is not in the table, one that stands there twice, a wrong wire type, a number longer than
-- it need be and a message that breaks off are refused: decoders differ on them.
-- Not here: which fields a message has (messages.lua), gRPC's framing (rpcs.lua).

local bit = require("bit")
local band, rshift = bit.band, bit.rshift
local byte, sub, char = string.byte, string.sub, string.char
local concat = table.concat
local refuse, malformed = refusal.refuse, refusal.malformed

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

-- tests/conformance/test_limits.py holds it against settings.py, where the reason stands.
local ENTRIES_MAX = 250000

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
    else
      if out[number] then malformed("field " .. number .. " is there twice") end
      out[number] = first
      local cut = out.cut
      if not cut then
        cut = {}
        out.cut = cut
      end
      cut[#cut + 1] = start
      cut[#cut + 1] = last
    end
  end
  return out
end

local function scan_field(s, out, number, spec)
  local first = out[number]
  return first and scan(s, first, out[-number], spec, {})
end

-- Whether the number at s[first..last], which `scan` has found, is zero.
local function is_zero(s, first, last)
  local _, zero = skip_varint(s, first, last)
  return zero
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

local function without(s, first, last, cut)
  local parts = {}
  for i = 1, #cut, 2 do
    parts[#parts + 1] = sub(s, first, cut[i] - 1)
    first = cut[i + 1] + 1
  end
  parts[#parts + 1] = sub(s, first, last)
  return concat(parts)
end

local function begin_request()
  entries = 0
end

return {
  NUMBER = NUMBER,
  BYTES = BYTES,
  MANY = MANY,
  CUT = CUT,
  small_varint = small_varint,
  skip_varint = skip_varint,
  is_zero = is_zero,
  ENTRIES_MAX = ENTRIES_MAX,
  begin_request = begin_request,
  scan = scan,
  scan_field = scan_field,
  text = text,
  netstring = netstring,
  add_netstrings = add_netstrings,
  encode_varint = encode_varint,
  encode_bytes = encode_bytes,
  without = without,
}
