-- Refusals: how a request is turned away, and words that are fit for a client and a log.

local sub = string.sub

-- As long as the checkpoint's sentences are (MESSAGE_BYTES_MAX in decision/explain.py).
local MESSAGE_BYTES_MAX = 1024

-- Raised with error(), caught in one place: a table, so that it cannot be mistaken for a defect. `status` is the gRPC
-- status, where it is not PERMISSION_DENIED.
local function refuse(reason, message, status)
  error({ reason = reason, message = message, status = status }, 0)
end

local function malformed(message)
  refuse("malformed-request", message)
end

-- The first bytes of `message`, which is UTF-8 and stays it.
local function shortened(message, bytes_max)
  if #message <= bytes_max then return message end
  return (sub(message, 1, bytes_max):gsub("[\192-\255][\128-\191]*$", ""))
end

-- The first bytes of what a client wrote, fit for a log.
local function printable(value, bytes_max)
  return (sub(value, 1, bytes_max):gsub("[^!-~]", "?"))
end

return {
  MESSAGE_BYTES_MAX = MESSAGE_BYTES_MAX,
  refuse = refuse,
  malformed = malformed,
  shortened = shortened,
  printable = printable,
}
