-- Who speaks: the verified certificate of the connection.

local find = string.find
local refuse, printable = refusal.refuse, refusal.printable
local clock, state = decisions.clock, decisions.state
local UNAVAILABLE = answers.UNAVAILABLE
local is_leaf = leaf

-- Counts requests under a root that is on its way out; adapters/gateway_usage.py reads it.
local LEAVING_COUNTER = "spangate_leaving"

-- Certificates that have been looked at, by their digest: { id, ends }. A gateway meets some hundreds in an hour.
local LOOKED_MAX = 10000
local looked, count = {}, 0

-- The rules of model/identity.py: a trust domain, and a path of segments that are neither empty nor dots. It becomes a
-- header's value and part of a key.
local function is_spiffe_id(id)
  return #id <= 2048 and find(id, "^spiffe://[%l%d%._-]+/[%w%._/-]*[%w%._-]$") and not find(id, "//", 10, true)
    and not find(id .. "/", "/%.%.?/", 10)
end

local function untrusted(message)
  refuse("untrusted-certificate", message)
end

local function not_accepted(connection, now)
  local why = "it comes from another authority or trust domain than this gateway's"
  if now >= connection:expirationPeerCertificate() * 1000 then
    why = "it has ended"
  elseif now < connection:validFromPeerCertificate() * 1000 then
    why = "it is not valid yet; the clock of its authority or of the gateway is wrong"
  end
  untrusted("the client certificate of " .. printable(connection:uriSanPeerCertificate()[1] or "nobody", 256)
    .. " is not accepted: " .. why)
end

-- What a certificate that Envoy has verified says. Refuses what is no workload's.
local function look(connection)
  local uris = connection:uriSanPeerCertificate()
  if #uris ~= 1 then untrusted("the client certificate must have exactly one URI name") end
  local id = uris[1]
  if not is_spiffe_id(id) then untrusted("the client certificate's URI name is not a SPIFFE ID") end
  if not is_leaf(connection:urlEncodedPemEncodedPeerCertificate()) then
    untrusted("the client certificate of " .. printable(id, 256) .. " is an authority's (CA:TRUE, or a key that signs "
      .. "certificates): it speaks for no workload")
  end
  return { id = id, ends = connection:expirationPeerCertificate() * 1000 }
end

-- The peer's SPIFFE ID from its verified certificate. Refuses anything else.
local function peer(handle)
  local connection = handle:streamInfo():downstreamSslConnection()
  if not connection or not connection:peerCertificatePresented() then
    refuse("no-certificate", "no client certificate: Spangate lets in only workloads with an X.509-SVID; "
      .. "start the program with `spangate run --as <identity> -- <command>`")
  end
  local now = clock(handle)
  if not connection:peerCertificateValidated() then not_accepted(connection, now) end
  local digest = connection:sha256PeerCertificateDigest()
  local found = looked[digest]
  if not found then
    found = look(connection)
    if count >= LOOKED_MAX then looked, count = {}, 0 end
    looked[digest], count = found, count + 1
  end
  -- Envoy verifies at the handshake, but a connection may outlive its certificate. The gateway closes connections long
  -- before a renewed one would be seen here as ended (CONNECTION_SECONDS_MAX in compiler/gateway.py).
  if now >= found.ends then
    untrusted("the client certificate of " .. printable(found.id, 256)
      .. " has ended since this connection was opened; connect again with a new one")
  end
  return found.id
end

-- A connection outlives a change of roots. While a root is on its way out, whoever speaks under it is served and asked to
-- connect anew; once it is gone, nobody is. Called after decisions.refresh, so that it knows of both in time;
-- `again`: it has been for this request, which counts once.
local function check_root(handle, again)
  local issuers = state.issuers
  if not issuers then return end
  local info = handle:streamInfo()
  local connection = info:downstreamSslConnection()
  local found = connection and issuers[connection:issuerPeerCertificate()]
  if found == nil then return end
  info:drainConnectionUponCompletion()
  if found then
    if not again then handle:stats():counter(LEAVING_COUNTER):inc() end
  else
    refuse("retired-certificate", "the root of this connection's client certificate has been retired; "
      .. "connect again with a new certificate", UNAVAILABLE)
  end
end

return { identify = peer, check_root = check_root }
