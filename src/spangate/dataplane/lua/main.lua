-- The gate: what Envoy runs on every request to Spanner.
--
-- Rules:
--   1. This program never decides. It reads a request's shape, looks the decision up, and asks the checkpoint for one it
--      does not have. All meaning lives in the checkpoint.
--   2. Only an allowed request gets the metadata `spangate.allow`, and the RBAC filter behind this one passes nothing
--      without it. Envoy sends a request on when Lua fails; the guard is why a failure here refuses instead.
--   3. The body is believed, never the headers. What cannot be read with certainty is refused.
-- Handles are dead after a yield (body, httpCall): they are taken again each time.
-- Not here: which accesses a statement makes, who may do what (the checkpoint); limits and the guard (compiler/gateway.py).

local malformed = refusal.malformed
local PATHS, read_request, refuse_call = rpcs.PATHS, rpcs.read_request, rpcs.refuse_call
local PARTITIONED = shape.PARTITIONED
local rewrite = rewrite.rewrite
local state, recall, refresh, ask = decisions.state, decisions.recall, decisions.refresh, decisions.ask
local GRACE_MS = decisions.GRACE_MS
local answer, answer_refusal = answers.answer, answers.answer_refusal
local METADATA, UNAVAILABLE, PERMISSION_DENIED = answers.METADATA, answers.UNAVAILABLE, answers.PERMISSION_DENIED
local bearer_of = tokens.bearer_of
local identify, check_root, check = peer.identify, peer.check_root, ownership.check
local canonical = aliases.canonical
local HOOKS, seal_for = responses.HOOKS, responses.seal_for

local PREFIX_HEADER = "google-cloud-resource-prefix"
local PARAMS_HEADER = "x-goog-request-params"

local BUSY = "spangate: the checkpoint has too many new statements to analyse; try again"
local AWAY = "spangate: the checkpoint does not answer, so nothing can be decided; try again"
local CHANGED = "the policy has changed; try again"

local function prepare(handle)
  local headers = handle:headers()
  local path = headers:get(":path") or ""
  local rpc = PATHS[path]
  if not rpc then refuse_call(path) end
  if headers:get(":method") ~= "POST" then malformed("a gRPC request has the method POST") end
  -- Others (application/grpc-web, application/grpc+json) say that the body is not what this program reads.
  local content_type = headers:get("content-type")
  if content_type ~= "application/grpc" and content_type ~= "application/grpc+proto" then
    malformed("the content type is not application/grpc")
  end
  -- gRPC compresses messages, never bodies; whoever undid such an encoding would read another body than this program.
  local encoding = headers:get("content-encoding")
  if encoding and encoding ~= "identity" then malformed("the body has a content encoding") end
  return rpc
end

local function policy_changed()
  state.check_at = -1e18
  refusal.refuse("checkpoint-unavailable", CHANGED, UNAVAILABLE)
end

local function check_again(handle, decision)
  identify(handle)
  check_root(handle, true)
  if decision.epoch ~= state.epoch then policy_changed() end
end

-- For a request that has waited, perhaps for seconds: whether what let it in still holds, or false and the refusal. Yields.
local function still_holds(handle, decision)
  refresh(handle)
  return pcall(check_again, handle, decision)
end

function envoy_on_request(handle)
  local known, identity = pcall(identify, handle)
  if not known then return answer_refusal(handle, identity) end
  local prepared, rpc = pcall(prepare, handle)
  local buffer = handle:body()
  if not prepared then return answer_refusal(handle, rpc) end

  local body = buffer and buffer:getBytes(0, buffer:length()) or ""
  local readable, out, database, rest = pcall(read_request, body, rpc)
  if not readable then return answer_refusal(handle, out) end

  local now = refresh(handle)
  local current, retired = pcall(check_root, handle)
  if not current then return answer_refusal(handle, retired) end
  local owner = canonical(identity)
  local owned, found = pcall(check, owner, rpc, body, out, database)
  if not owned then return answer_refusal(handle, found) end

  local flags = out.flags
  if found.partitioned then flags = PARTITIONED[flags] or flags end
  local key = identity .. "\n" .. rpc.prefix .. #database .. ":" .. database .. "," .. flags .. rest
  local decision, busy, asked = recall(key), false, false
  -- A clock that was set back must not prolong anything.
  if not decision or now - state.verified_at > GRACE_MS or now < state.verified_at then
    decision, busy = ask(handle, identity, key, #identity + 2, now)
    asked = true
  end
  if not decision then
    return answer(handle, UNAVAILABLE, "checkpoint-unavailable", nil, busy and BUSY or AWAY)
  end
  if not decision.allowed then
    return answer(handle, decision.status, decision.reason, decision.id, decision.message)
  end

  local holds, broken
  if asked then
    holds, broken = still_holds(handle, decision)
    if not holds then return answer_refusal(handle, broken) end
  end
  -- The checkpoint may know of aliases that this worker does not, and the other way round.
  if decision.subject ~= owner then
    holds, broken = pcall(policy_changed)
    return answer_refusal(handle, broken)
  end

  local bearer, flag, why
  if decision.with_token then
    bearer, flag, why = bearer_of(handle, owner, now)
    if not bearer then
      local status, reason = UNAVAILABLE, "token-unavailable"
      if flag then status, reason = PERMISSION_DENIED, "token-refused" end
      return answer(handle, status, reason, nil, "spangate: " .. why)
    end
    if flag then
      holds, broken = still_holds(handle, decision)
      if not holds then return answer_refusal(handle, broken) end
    end
  end

  local rewritable, rewritten = pcall(rewrite, body, out, rpc, decision, found)
  if not rewritable then return answer_refusal(handle, rewritten) end
  if rewritten then handle:body():setBytes(rewritten) end
  local headers = handle:headers()
  -- The client's own has been removed before this program ran (compiler/gateway.py).
  if bearer then headers:replace("authorization", bearer) end
  -- Several of that name are given as one, joined by commas.
  local prefix = headers:get(PREFIX_HEADER)
  if prefix and prefix ~= database then
    headers:remove(PREFIX_HEADER)
    headers:add(PREFIX_HEADER, database)
  end
  if found.params then
    headers:remove(PARAMS_HEADER)
    headers:add(PARAMS_HEADER, found.params)
  end
  local metadata = handle:streamInfo():dynamicMetadata()
  local hook = rpc.answer
  if found.answer then
    hook = found.answer
    metadata:set(METADATA, "seal", seal_for(found, owner, database, decision))
  end
  if hook then
    -- A compressed answer could not be read. The second one asks Google's front end for one.
    headers:remove("grpc-accept-encoding")
    headers:remove("x-response-encoding")
    metadata:set(METADATA, "answer", hook)
  end
  metadata:set(METADATA, "allow", decision.id)
end

function envoy_on_response(handle)
  local metadata = handle:streamInfo():dynamicMetadata():get(METADATA)
  local hook = metadata and HOOKS[metadata.answer]
  if hook then hook(handle, metadata) end
end

-- For the tests; Envoy ignores it.
return {
  specs = messages,
  answers = receipts.specs,
  paths = PATHS,
  limits = {
    request_bytes_max = rpcs.REQUEST_BYTES_MAX,
    commit_bytes_max = rpcs.COMMIT_BYTES_MAX,
    entries_max = wire.ENTRIES_MAX,
    distinct_max = shape.DISTINCT_MAX,
    epoch_check_ms = decisions.EPOCH_CHECK_MS,
    grace_ms = GRACE_MS,
    checkpoint_timeout_ms = decisions.CHECKPOINT_TIMEOUT_MS,
    epoch_timeout_ms = decisions.EPOCH_TIMEOUT_MS,
    token_check_ms = tokens.TOKEN_CHECK_MS,
    token_retry_ms = tokens.TOKEN_RETRY_MS,
    token_margin_ms = tokens.TOKEN_MARGIN_MS,
    broker_timeout_ms = tokens.BROKER_TIMEOUT_MS,
    broker_renewal_timeout_ms = tokens.RENEWAL_TIMEOUT_MS,
    message_bytes_max = refusal.MESSAGE_BYTES_MAX,
    cache_entries_max = decisions.CACHE_ENTRIES_MAX,
    cache_key_bytes_max = decisions.CACHE_KEY_BYTES_MAX,
    name_bytes_max = seal.NAME_BYTES_MAX,
    sealed_bytes_max = seal.SEALED_BYTES_MAX,
  },
  state = state,
}
