-- Decisions: a cache of this worker, valid for one epoch, and the questions to the checkpoint.
--
-- Rules: this never decides. Without a whole answer there is no decision; a clock that was set back prolongs nothing.

local sub, gmatch = string.sub, string.gmatch
local PERMISSION_DENIED = answers.PERMISSION_DENIED
local shortened, MESSAGE_BYTES_MAX = refusal.shortened, refusal.MESSAGE_BYTES_MAX
local learn, known = seal.learn, seal.known

-- Envoy's clusters of these names. The questions for the epoch have connections of their own, so that they never wait
-- behind new statements.
local CHECKPOINT, EPOCH = "spangate_checkpoint", "spangate_epoch"

-- tests/conformance/test_limits.py holds these against settings.py, where the reasons stand.
local EPOCH_CHECK_MS = 500
local GRACE_MS = 5000
local CHECKPOINT_TIMEOUT_MS = 5000
local EPOCH_TIMEOUT_MS = 1000

-- Two generations of at most this many decisions and key bytes each: memory is bounded without counting uses.
local CACHE_ENTRIES_MAX = 10000
local CACHE_KEY_BYTES_MAX = 16777216

-- INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED: the only statuses of a denial. Clients would try others again.
local DENIAL_STATUSES = { ["3"] = "3", ["5"] = "5", [PERMISSION_DENIED] = PERMISSION_DENIED }

local state = {
  epoch = nil, -- the policy version that the cached decisions were made under
  verified_at = -1e18, -- when the checkpoint last confirmed it, ms
  check_at = -1e18, -- when to ask again, ms
  young = {}, -- identity and shape -> decision
  old = {},
  entries = 0,
  key_bytes = 0,
  -- Issuers of certificates, by their full name: true under a root that is on its way out, false under one that is gone;
  -- nil as long as there are none, so that nobody looks.
  issuers = nil,
}

-- `leaving`, `refused`: common names, with commas between; nil if the checkpoint does not know, and then nothing changes.
-- The organization is the authority's (CA_ORGANIZATION in authority/template.py); Envoy writes names as RFC 2253 does.
local function learn_issuers(leaving, refused)
  if not leaving or not refused then return end
  local told = leaving .. ";" .. refused
  if told == state.told then return end
  state.told = told
  state.issuers = told ~= ";" and {} or nil
  for name in gmatch(leaving, "[^,]+") do state.issuers["CN=" .. name .. ",O=spangate"] = true end
  for name in gmatch(refused, "[^,]+") do state.issuers["CN=" .. name .. ",O=spangate"] = false end
end

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

-- Asks the checkpoint for its epoch, at most each EPOCH_CHECK_MS; one request at a time pays for it, but at the
-- start, when no sealing key is known: then each does. Yields. Returns the time, which has passed if it asked.
local function refresh(handle)
  local now = clock(handle)
  -- Earlier than the last check only when the clock was set back: then what is known of the epoch is void.
  if known() and now < state.check_at and now >= state.check_at - EPOCH_CHECK_MS then return now end
  state.check_at = now + EPOCH_CHECK_MS
  local headers = handle:httpCall(
    EPOCH,
    { [":method"] = "GET", [":path"] = "/epoch", [":authority"] = EPOCH },
    nil,
    EPOCH_TIMEOUT_MS
  )
  local epoch = headers[":status"] == "200" and said(headers, "x-spangate-epoch")
  if epoch then
    if epoch ~= state.epoch then
      forget()
      state.epoch = epoch
    end
    learn(headers["x-spangate-seal"])
    learn_issuers(headers["x-spangate-leaving"], headers["x-spangate-refused"])
    aliases.learn(headers["x-spangate-aliases"])
    -- From before the call: the answer says what held at some moment after it.
    state.verified_at = now
  end
  return clock(handle)
end

-- Whether the checkpoint has too much to do, and is not away: it says so, or Envoy that too many wait for it already, or
-- it has told its epoch since `now`, when it was asked.
local function is_busy(headers, now)
  return headers["x-spangate-busy"] == "1" or headers["x-envoy-overloaded"] == "true" or state.verified_at > now
end

local function question(handle, identity, shape)
  return handle:httpCall(
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
end

-- The checkpoint's decision, or nil if it gives none, and then whether it is busy; `key` ends with the shape, which
-- begins at `from`. Yields.
local function ask(handle, identity, key, from, now)
  local headers, message = question(handle, identity, sub(key, from))
  -- The connection has ended, and with it perhaps the process there: its successor is asked, once. What Envoy gives up
  -- by itself is a 503, a question that takes too long a 504. A decision may be asked for twice.
  if headers[":status"] == "503" and not is_busy(headers, now) then
    headers, message = question(handle, identity, sub(key, from))
  end
  local verdict, id = headers["x-spangate-decision"], said(headers, "x-spangate-id")
  local epoch = said(headers, "x-spangate-epoch")
  if headers[":status"] ~= "200" then return nil, is_busy(headers, now) end
  if not id or not epoch then return nil end
  local decision
  if verdict == "allow" then
    -- An empty role would create sessions without one, an empty owner sessions of nobody, an empty tag receipts of nobody;
    -- without its subject nobody could say whose sessions and tokens it is about.
    local role, tag = said(headers, "x-spangate-role"), said(headers, "x-spangate-tag")
    local owner, subject = said(headers, "x-spangate-owner"), said(headers, "x-spangate-subject")
    if not role or not tag or not owner or not subject then return nil end
    decision = {
      allowed = true,
      id = id,
      role = role,
      tag = tag,
      owner = owner,
      subject = subject,
      epoch = epoch,
      keeps_tags = headers["x-spangate-keep-tags"] == "1",
      context = said(headers, "x-spangate-context"),
      with_token = headers["x-spangate-broker"] == "1",
    }
  elseif verdict == "deny" then
    local reason = said(headers, "x-spangate-reason")
    if not reason then return nil end
    decision = {
      allowed = false,
      id = id,
      reason = reason,
      status = DENIAL_STATUSES[headers["x-spangate-status"]] or PERMISSION_DENIED,
      message = shortened(message or "", MESSAGE_BYTES_MAX),
    }
  else
    return nil
  end
  if not state.epoch then state.epoch = epoch end
  if epoch == state.epoch then
    state.verified_at = now > state.verified_at and now or state.verified_at
    if headers["x-spangate-remember"] ~= "0" then remember(key, decision) end
  else
    -- Made under another policy than the cache: time to look which of the two is the newer one.
    state.check_at = -1e18
  end
  return decision
end

return {
  EPOCH_CHECK_MS = EPOCH_CHECK_MS,
  GRACE_MS = GRACE_MS,
  CHECKPOINT_TIMEOUT_MS = CHECKPOINT_TIMEOUT_MS,
  EPOCH_TIMEOUT_MS = EPOCH_TIMEOUT_MS,
  CACHE_ENTRIES_MAX = CACHE_ENTRIES_MAX,
  CACHE_KEY_BYTES_MAX = CACHE_KEY_BYTES_MAX,
  state = state,
  clock = clock,
  recall = recall,
  refresh = refresh,
  ask = ask,
}
