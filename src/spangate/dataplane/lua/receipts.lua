-- Receipts: the commit timestamp, read from Spanner's answer to Commit.

local band = require("bit").band
local byte, format = string.byte, string.format
local scan, scan_field, begin_request = wire.scan, wire.scan_field, wire.begin_request
local BYTES, NUMBER = wire.BYTES, wire.NUMBER

-- `others`: an answer is read, not judged; fields that Spanner adds one day are passed over.
local COMMIT_RESPONSE = {
  [1] = BYTES, [2] = BYTES, [4] = BYTES, [5] = BYTES, [6] = BYTES, [7] = NUMBER, [8] = NUMBER,
  others = true,
}
local TIMESTAMP = { [1] = NUMBER, [2] = NUMBER }

local function number_at(s, out, number)
  local value, factor = 0, 1
  if out[number] then
    for i = out[number], out[-number] do
      value = value + band(byte(s, i), 127) * factor
      factor = factor * 128
    end
  end
  return value
end

-- `seconds.nanoseconds` of a CommitResponse in a gRPC body; nil if it has none. With a precommit token nothing is
-- committed yet: the client commits again.
local function commit_timestamp(body)
  local flag, a, b, c, d = byte(body, 1, 5)
  if flag ~= 0 or not d then return nil end
  local last = 5 + ((a * 256 + b) * 256 + c) * 256 + d
  if last > #body then return nil end
  begin_request()
  local out = scan(body, 6, last, COMMIT_RESPONSE, {})
  local moment = scan_field(body, out, 1, TIMESTAMP)
  if not moment or out[4] then return nil end
  return format("%d.%09d", number_at(body, moment, 1), number_at(body, moment, 2))
end

return {
  specs = { CommitResponse = COMMIT_RESPONSE, Timestamp = TIMESTAMP },
  commit_timestamp = commit_timestamp,
}
