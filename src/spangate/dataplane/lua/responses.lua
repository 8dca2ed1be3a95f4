-- What is done with Spanner's answers. Results stream; an answer is read only where a hook wants it.
--
-- A request is marked with its hook's name, in the dynamic metadata `answer`. A hook takes the handle and the metadata of
-- Spangate's namespace; it may read and replace the body. An error in it sends the answer on as it is.

local commit_timestamp = receipts.commit_timestamp
local METADATA = answers.METADATA

local HOOKS = {}

function HOOKS.commit(handle)
  local buffer = handle:body()
  if not buffer then return end
  local readable, moment = pcall(commit_timestamp, buffer:getBytes(0, buffer:length()))
  if readable and moment then handle:streamInfo():dynamicMetadata():set(METADATA, "commit", moment) end
end

return { HOOKS = HOOKS }
