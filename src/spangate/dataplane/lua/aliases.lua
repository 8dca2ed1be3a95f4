-- Trust domains by their aliases: a session or transaction belongs to the workload, under whichever name it comes.
--
-- Rules: they come from the checkpoint with the epoch. Decisions are asked for under the name in the certificate; the
-- checkpoint knows the aliases better than a cache, and an allow says whom it is about: main.lua compares.

local find, sub, gmatch = string.find, string.sub, string.gmatch

local text -- the aliases as the checkpoint gave them
local domains -- alias -> trust domain; nil where there are none

-- `<alias>=<trust domain>` joined by `,`.
local function learn(said)
  if said == text then return end
  text, domains = said, nil
  for alias, domain in gmatch(said or "", "([^=,]+)=([^=,]+)") do
    domains = domains or {}
    domains[alias] = domain
  end
end

-- The SPIFFE ID that `id`, one already, stands for.
local function canonical(id)
  if not domains then return id end
  local _, last, name = find(id, "^spiffe://([^/]+)")
  local domain = domains[name]
  return domain and "spiffe://" .. domain .. sub(id, last + 1) or id
end

return { learn = learn, canonical = canonical }
