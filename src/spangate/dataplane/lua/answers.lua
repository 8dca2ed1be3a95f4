-- The filter's own answers: refusals in gRPC's words.

local byte, format = string.byte, string.format
local shortened, MESSAGE_BYTES_MAX = refusal.shortened, refusal.MESSAGE_BYTES_MAX

local METADATA = "spangate"
local PERMISSION_DENIED, UNAVAILABLE = "7", "14"

-- Percent-encoding of grpc-message (gRPC over HTTP2: "unreserved" is 0x20 to 0x7E without `%`).
local function percent_encode(message)
  return (message:gsub("[^ -$&-~]", function(c) return format("%%%02X", byte(c)) end))
end

-- `binary`: further headers whose values are bytes.
local function answer(handle, status, reason, id, message, binary)
  message = shortened(message, MESSAGE_BYTES_MAX)
  local metadata = handle:streamInfo():dynamicMetadata()
  metadata:set(METADATA, "deny", id and reason .. " " .. id or reason)
  -- A recorded decision says itself what there is to say.
  if not id then metadata:set(METADATA, "detail", message) end
  local headers = {
    [":status"] = "200",
    ["content-type"] = "application/grpc",
    ["grpc-status"] = status,
    ["grpc-message"] = percent_encode(message),
  }
  for name, bytes in pairs(binary or {}) do headers[name] = handle:base64Escape(bytes) end
  handle:respond(headers, "")
end

local function answer_refusal(handle, refusal)
  if type(refusal) ~= "table" then
    handle:logErr("spangate: " .. tostring(refusal))
    return answer(handle, PERMISSION_DENIED, "filter-failed", nil,
      "spangate: the gateway failed on this request and refuses it; its log says why")
  end
  local message = refusal.verbatim and refusal.message or "spangate: " .. refusal.message
  answer(handle, refusal.status or PERMISSION_DENIED, refusal.reason, nil, message, refusal.binary)
end

return {
  METADATA = METADATA,
  PERMISSION_DENIED = PERMISSION_DENIED,
  UNAVAILABLE = UNAVAILABLE,
  answer = answer,
  answer_refusal = answer_refusal,
}
