-- Whether a verified certificate may speak for a workload at all: an authority's own may not, whatever name it has.
--
-- Envoy's verification leaves that open (docs/decisions/0029). The rule is SPIFFE's (X509-SVID, section 5.2): a leaf does
-- not say CA:TRUE, nor that its key signs certificates or their revocation lists. DER is read as far as that needs, and
-- what cannot be read is no leaf.

local byte, sub, char, find, gsub = string.byte, string.sub, string.char, string.find, string.gsub

local SEQUENCE, BOOLEAN, BIT_STRING, OCTET_STRING, OID, EXTENSIONS = 0x30, 0x01, 0x03, 0x04, 0x06, 0xa3
local BASIC_CONSTRAINTS, KEY_USAGE = "\x55\x1d\x13", "\x55\x1d\x0f"
-- keyCertSign and cRLSign are bits 5 and 6, counted from the highest.
local SIGNS = 0x06

local VALUES = {}
for i = 1, 64 do VALUES[byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", i)] = i - 1 end

local function decode64(text)
  local out = {}
  for i = 1, #text - 3, 4 do
    local a, b, c, d = byte(text, i, i + 3)
    local bits = VALUES[a] * 262144 + VALUES[b] * 4096 + (VALUES[c] or 0) * 64 + (VALUES[d] or 0)
    out[#out + 1] = char(math.floor(bits / 65536), math.floor(bits / 256) % 256, bits % 256)
  end
  local _, _, padding = find(text, "(=*)$")
  return sub(table.concat(out), 1, -1 - #padding)
end

-- The element at `at`: its tag, where its content begins and ends, and nothing that reaches beyond `stop`.
local function element(der, at, stop)
  local tag, length = byte(der, at, at + 1)
  local from = at + 2
  if length >= 0x80 then
    local count = length - 0x80
    if count < 1 or count > 3 then error("a length") end
    length = 0
    for i = from, from + count - 1 do length = length * 256 + byte(der, i) end
    from = from + count
  end
  local to = from + length - 1
  if to > stop then error("an end") end
  return tag, from, to
end

local function expect(wanted, der, at, stop)
  local tag, from, to = element(der, at, stop)
  if tag ~= wanted then error("a tag") end
  return from, to
end

-- Whether one extension, between `at` and `stop`, says that this is an authority's certificate.
local function says_authority(der, at, stop)
  local from, to = expect(OID, der, at, stop)
  local name = sub(der, from, to)
  if name ~= BASIC_CONSTRAINTS and name ~= KEY_USAGE then return false end
  local tag, first, last = element(der, to + 1, stop)
  if tag == BOOLEAN then first, last = expect(OCTET_STRING, der, last + 1, stop)
  elseif tag ~= OCTET_STRING then error("a tag") end
  if name == KEY_USAGE then
    from, to = expect(BIT_STRING, der, first, last)
    -- The first byte counts the bits that are not used.
    return to > from and bit.band(byte(der, from + 1), SIGNS) ~= 0
  end
  from, to = expect(SEQUENCE, der, first, last)
  if from > to then return false end
  tag, first = element(der, from, to)
  return tag == BOOLEAN and byte(der, first) ~= 0
end

local function is_leaf(escaped)
  local pem = gsub(escaped, "%%(%x%x)", function(digits) return char(tonumber(digits, 16)) end)
  local _, _, text = find(pem, "^%-%-%-%-%-BEGIN CERTIFICATE%-%-%-%-%-\n([%w+/=\n]+)%-%-%-%-%-END CERTIFICATE%-%-%-%-%-\n$")
  local der = decode64((gsub(text, "\n", "")))
  local at, stop = expect(SEQUENCE, der, 1, #der)
  at, stop = expect(SEQUENCE, der, at, stop)
  while at <= stop do
    local tag, from, to = element(der, at, stop)
    if tag == EXTENSIONS then
      at, stop = expect(SEQUENCE, der, from, to)
      while at <= stop do
        from, to = expect(SEQUENCE, der, at, stop)
        if says_authority(der, from, to) then return false end
        at = to + 1
      end
      return true
    end
    at = to + 1
  end
  -- Without extensions there is no name either.
  return false
end

-- `escaped` is the certificate in PEM, URL-encoded, as Envoy gives it.
return function(escaped)
  local readable, found = pcall(is_leaf, escaped)
  return readable and found
end
