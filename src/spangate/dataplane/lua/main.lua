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

local refuse, malformed, printable = refusal.refuse, refusal.malformed, refusal.printable
local PATHS, read_request = shape.PATHS, shape.read_request
local rewrite = rewrite.rewrite
local state, recall, refresh, ask = decisions.state, decisions.recall, decisions.refresh, decisions.ask
local GRACE_MS = decisions.GRACE_MS
local answer, answer_refusal = answers.answer, answers.answer_refusal
local METADATA, PERMISSION_DENIED, UNAVAILABLE = answers.METADATA, answers.PERMISSION_DENIED, answers.UNAVAILABLE
local identify, check = peer.identify, ownership.check
local HOOKS, seal_for = responses.HOOKS, responses.seal_for

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
  local known, identity = pcall(identify, handle)
  if not known then return answer_refusal(handle, identity) end
  local prepared, rpc = pcall(prepare, handle)
  local buffer = handle:body()
  if not prepared then return answer_refusal(handle, rpc) end

  local body = buffer and buffer:getBytes(0, buffer:length()) or ""
  local readable, out, database, shape = pcall(read_request, body, rpc)
  if not readable then return answer_refusal(handle, out) end

  local now = refresh(handle)
  local owned, found = pcall(check, identity, rpc, body, out, database)
  if not owned then return answer_refusal(handle, found) end

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

  local rewritable, rewritten = pcall(rewrite, body, out, rpc, decision, found)
  if not rewritable then return answer_refusal(handle, rewritten) end
  if rewritten then handle:body():setBytes(rewritten) end
  local headers = handle:headers()
  local prefix = headers:get("google-cloud-resource-prefix")
  if prefix and prefix ~= database then headers:replace("google-cloud-resource-prefix", database) end
  if found.params then headers:replace("x-goog-request-params", found.params) end
  local metadata = handle:streamInfo():dynamicMetadata()
  local hook = rpc.answer
  if found.answer then
    hook = found.answer
    metadata:set(METADATA, "seal", seal_for(found, identity, database, decision))
  end
  if hook then
    -- A compressed answer could not be read.
    headers:remove("grpc-accept-encoding")
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
    request_bytes_max = shape.REQUEST_BYTES_MAX,
    commit_bytes_max = shape.COMMIT_BYTES_MAX,
    entries_max = wire.ENTRIES_MAX,
    epoch_check_ms = decisions.EPOCH_CHECK_MS,
    grace_ms = GRACE_MS,
    checkpoint_timeout_ms = decisions.CHECKPOINT_TIMEOUT_MS,
    epoch_timeout_ms = decisions.EPOCH_TIMEOUT_MS,
    message_bytes_max = refusal.MESSAGE_BYTES_MAX,
    cache_entries_max = decisions.CACHE_ENTRIES_MAX,
    cache_key_bytes_max = decisions.CACHE_KEY_BYTES_MAX,
  },
  state = state,
}
