-- Seals: what makes a name or id that Spanner gives out usable by one identity in one database only.
--
-- A sealed value is the raw one with a tail that only who has the key can compute:
--   transaction ids, partition tokens   raw .. kind (1 byte) .. key id (4) .. policy version (6) .. MAC (16)
--   session names                       raw .. "sg" .. key id (8 hex digits) .. MAC (32 hex digits)
-- The MAC is SipHash-2-4-128 over kind, key id, policy version, identity, database and raw value.
--
-- Rules: the keys come from the checkpoint with the epoch; the first one seals, all of them open. Without a key nothing
-- is sealed or opened. What does not open is not used. A key id is no secret: whoever has a seal has read it there.
-- Not here: where sealed values stand in requests and answers (ownership.lua, responses.lua), why (decisions/0016).

local byte, sub, char, find, format = string.byte, string.sub, string.char, string.find, string.format
local key_of, hash128 = siphash.key_of, siphash.hash128
local refuse = refusal.refuse

local READ_ONLY, READ_WRITE, PARTITIONED_DML, PARTITION_TOKEN, SESSION = "r", "w", "p", "t", "s"
local KINDS = { r = true, w = true, p = true, t = true }
local TAIL_BYTES = 27
local NAME_TAIL_BYTES = 42
local NO_POLICY = "\0\0\0\0\0\0"
local UNKNOWN_KEY = "unknown key"

-- Longer ones are nobody's: Spanner's names have some 200 bytes, its ids fewer, its partition tokens some thousands. A
-- MAC takes 7 ms per MiB, and a name goes into the headers of the answer.
local NAME_BYTES_MAX = 1024
local SEALED_BYTES_MAX = 1048576

-- What has been opened is remembered: two generations of at most this many, none of them long.
local OPENED_MAX = 10000
local REMEMBERED_BYTES_MAX = 1024

local text -- the keys as the checkpoint gave them
local keys = {} -- key id (4 bytes) -> key
local sealing -- the key id that seals
local young, old, remembered = {}, {}, 0

local function from_hex(digits)
  return (digits:gsub("..", function(pair) return char(tonumber(pair, 16)) end))
end

local function to_hex(bytes)
  return (bytes:gsub(".", function(c) return format("%02x", byte(c)) end))
end

-- The keys of this moment: `<key id, 8 hex digits>:<32 hex digits>` joined by `,`, the one that seals first. What is not
-- of that form leaves no key.
local function learn(said)
  if said == text then return end
  text, keys, sealing = said, {}, nil
  young, old, remembered = {}, {}, 0
  local at = 1
  repeat
    local _, last, id, key = find(said or "", "^(%x%x%x%x%x%x%x%x):(%x+),?", at)
    if not last or #key ~= 32 then
      keys, sealing = {}, nil
      return
    end
    id = from_hex(id)
    sealing = sealing or id
    keys[id] = key_of(from_hex(key))
    at = last + 1
  until at > #said
end

local function known()
  return sealing ~= nil
end

-- Identity and database hold no line end, and the raw value comes last: no two contents are written alike.
local function mac(kind, id, policy, identity, database, raw)
  return hash128(keys[id], kind .. id .. policy .. identity .. "\n" .. database .. "\n" .. raw)
end

-- `policy` is a policy version: 12 hex digits.
local function seal(kind, policy, identity, database, raw)
  policy = from_hex(policy)
  return raw .. kind .. sealing .. policy .. mac(kind, sealing, policy, identity, database, raw)
end

local function seal_name(identity, database, name)
  return name .. "sg" .. to_hex(sealing) .. to_hex(mac(SESSION, sealing, NO_POLICY, identity, database, name))
end

local function remember(sealed, entry)
  if #sealed > REMEMBERED_BYTES_MAX then return end
  if remembered >= OPENED_MAX then
    old, young, remembered = young, {}, 0
  end
  young[sealed] = entry
  remembered = remembered + 1
end

-- What `sealed` was opened as for this identity and database, a session's name or another value, if it is remembered.
local function recall(sealed, identity, database, names)
  local entry = young[sealed]
  if not entry then
    entry = old[sealed]
    if not entry then return nil end
    remember(sealed, entry)
  end
  -- A value opens for one identity and one database only: for others it is as if it were not there.
  if entry.identity ~= identity or entry.database ~= database or (entry.kind == SESSION) ~= names then return nil end
  return entry
end

-- A sealed id or token -> { raw, kind, policy (12 hex digits) }, or UNKNOWN_KEY, or nil.
local function open(sealed, identity, database)
  local entry = recall(sealed, identity, database, false)
  if entry then return entry end
  local first = #sealed - TAIL_BYTES + 1
  -- A raw value of no bytes selects nothing.
  if first < 2 or #sealed > SEALED_BYTES_MAX then return nil end
  local kind, id = sub(sealed, first, first), sub(sealed, first + 1, first + 4)
  if not KINDS[kind] then return nil end
  if not keys[id] then return UNKNOWN_KEY end
  local raw, policy = sub(sealed, 1, first - 1), sub(sealed, first + 5, first + 10)
  if mac(kind, id, policy, identity, database, raw) ~= sub(sealed, first + 11) then return nil end
  entry = { identity = identity, database = database, raw = raw, kind = kind, policy = to_hex(policy) }
  remember(sealed, entry)
  return entry
end

-- A sealed session name -> { raw }, or UNKNOWN_KEY, or nil.
local function open_name(sealed, identity, database)
  local entry = recall(sealed, identity, database, true)
  if entry then return entry end
  if #sealed > NAME_BYTES_MAX then return nil end
  local raw, tail = sub(sealed, 1, -NAME_TAIL_BYTES - 1), sub(sealed, -NAME_TAIL_BYTES)
  if not find(tail, "^sg[0-9a-f]+$") or byte(raw, -1) == 47 then return nil end
  local id = from_hex(sub(tail, 3, 10))
  if not keys[id] then return UNKNOWN_KEY end
  if to_hex(mac(SESSION, id, NO_POLICY, identity, database, raw)) ~= sub(tail, 11) then return nil end
  entry = { identity = identity, database = database, raw = raw, kind = SESSION }
  remember(sealed, entry)
  return entry
end

-- An id or token of this identity, opened; refuses any other.
local function own(sealed, identity, database, called)
  local entry = open(sealed, identity, database)
  if not entry then
    refuse("foreign-transaction", "this " .. called .. " was not given to this identity for this database through this "
      .. "gateway, or was altered; begin a transaction of one's own")
  end
  if entry == UNKNOWN_KEY then
    refuse("foreign-transaction", "this " .. called .. " was sealed with a key that is no longer known here; begin the "
      .. "transaction again", "10")
  end
  return entry
end

return {
  READ_ONLY = READ_ONLY,
  READ_WRITE = READ_WRITE,
  PARTITIONED_DML = PARTITIONED_DML,
  PARTITION_TOKEN = PARTITION_TOKEN,
  UNKNOWN_KEY = UNKNOWN_KEY,
  OPENED_MAX = OPENED_MAX,
  NAME_BYTES_MAX = NAME_BYTES_MAX,
  SEALED_BYTES_MAX = SEALED_BYTES_MAX,
  learn = learn,
  known = known,
  seal = seal,
  seal_name = seal_name,
  open = open,
  open_name = open_name,
  own = own,
}
