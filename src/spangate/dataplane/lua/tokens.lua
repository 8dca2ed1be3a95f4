-- Access tokens: each identity's own, from the broker, remembered by this worker for a while.
--
-- Rules: a token is kept under the verified identity that it was asked for, and goes into that identity's requests and
-- nowhere else: no log, no metadata, no answer of ours. None is used after its end, or over a clock that was set back.
-- Not here: whether a request may go on (decisions.lua), where tokens come from (the broker).

local find = string.find
local state, clock = decisions.state, decisions.clock

local BROKER = "spangate_broker"

-- How often the broker is asked again for a token that is known: what has changed there takes effect this late.
local TOKEN_CHECK_MS = 30000
-- While it gives none, one request in this time asks again; the others go on with what is known.
local TOKEN_RETRY_MS = 1000
-- A request travels, and may have waited for its decision before.
local TOKEN_MARGIN_MS = 10000
-- The broker itself waits ten seconds for Google.
local BROKER_TIMEOUT_MS = 12000
-- Nobody needs to wait where there is a token that is good.
local RENEWAL_TIMEOUT_MS = 1000

-- Two generations of at most this many entries and bytes each.
local TOKENS_MAX = 5000
local TOKENS_BYTES_MAX = 16777216

local AWAY = "the broker does not answer, so there is no access token for Spanner; try again"

local young, old, entries, bytes, epoch = {}, {}, 0, 0, nil

local function remember(identity, entry)
  local size = #identity + #(entry.bearer or entry.refused)
  if entries >= TOKENS_MAX or bytes + size > TOKENS_BYTES_MAX then
    old, young, entries, bytes = young, {}, 0, 0
  end
  young[identity], entries, bytes = entry, entries + 1, bytes + size
end

local function recall(identity)
  local entry = young[identity]
  if entry then return entry end
  entry = old[identity]
  if entry then remember(identity, entry) end
  return entry
end

-- The header's value, its life in ms; or nil, whether that is for good, and why. Yields.
local function ask(handle, identity, timeout_ms)
  local headers = handle:httpCall(
    BROKER,
    { [":method"] = "POST", [":path"] = "/authorize", [":authority"] = BROKER, ["x-spangate-identity"] = identity },
    nil,
    timeout_ms
  )
  local bearer, ttl_ms = headers["x-spangate-authorization"], tonumber(headers["x-spangate-ttl-ms"])
  if headers[":status"] == "200" and ttl_ms and bearer and find(bearer, "^Bearer [%w%-._~+/:=]+$") then
    return bearer, ttl_ms
  end
  return nil, headers[":status"] == "403", headers["x-spangate-message"] or AWAY
end

-- What the request's `authorization` is to be, and whether it waited for it; or nil, whether trying again is of no use, and why. May yield.
local function bearer_of(handle, identity, now)
  if epoch ~= state.epoch then
    -- The policy says whose tokens these are.
    young, old, entries, bytes, epoch = {}, {}, 0, 0, state.epoch
  end
  local known = recall(identity)
  -- `from`: before it only where the clock was set back.
  if known and now < known.from then known = nil end
  if known and now < known.ask_at then
    if known.refused then return nil, true, known.refused end
    if now < known.ends then return known.bearer, false end
  end
  local good = known and known.bearer and now < known.ends
  if good then known.ask_at = now + TOKEN_RETRY_MS end
  -- Meanwhile others may hear of another policy.
  local asked_under = epoch
  local bearer, ttl_ms, why = ask(handle, identity, good and RENEWAL_TIMEOUT_MS or BROKER_TIMEOUT_MS)
  if bearer then
    local from = clock(handle)
    local pause = ttl_ms / 4 < TOKEN_CHECK_MS and ttl_ms / 4 or TOKEN_CHECK_MS
    -- From before the call: the life that it was told began at some moment after it.
    local fresh = { bearer = bearer, from = now, ask_at = now + pause, ends = now + ttl_ms - TOKEN_MARGIN_MS }
    if asked_under == state.epoch and from >= now then remember(identity, fresh) end
    return bearer, true
  end
  if ttl_ms then
    if asked_under == state.epoch then
      remember(identity, { refused = why, from = now, ask_at = now + TOKEN_RETRY_MS })
    end
    return nil, true, why
  end
  if good then return known.bearer, true end
  return nil, false, why
end

return {
  TOKEN_CHECK_MS = TOKEN_CHECK_MS,
  TOKEN_RETRY_MS = TOKEN_RETRY_MS,
  TOKEN_MARGIN_MS = TOKEN_MARGIN_MS,
  BROKER_TIMEOUT_MS = BROKER_TIMEOUT_MS,
  RENEWAL_TIMEOUT_MS = RENEWAL_TIMEOUT_MS,
  TOKENS_MAX = TOKENS_MAX,
  bearer_of = bearer_of,
}
