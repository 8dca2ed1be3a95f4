-- Whose a request's session and transaction are.
--
-- Sessions and transactions are not told apart by their creators yet: whoever has a grant in a database may use them.

local NOTHING = { append = "" }

-- Called with the identity, the call (rpcs.lua), the request's body, its fields and its database: after the epoch is
-- known, and before the decision is looked up. May refuse. Returns what it found:
--   append: bytes that are appended to the message
--   partitioned: true within a transaction of partitioned DML
--   policy: the policy version that the transaction's tag has had from its beginning
--   answer: the name of the hook that reads Spanner's answer (HOOKS in responses.lua)
local function check()
  return NOTHING
end

return { check = check }
