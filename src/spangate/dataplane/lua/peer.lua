-- Who speaks: the verified certificate of the connection.

local find = string.find
local refuse, printable = refusal.refuse, refusal.printable
local clock, state, LEAVING = decisions.clock, decisions.state, decisions.LEAVING
local UNAVAILABLE = answers.UNAVAILABLE

-- Counts requests under a root that is on its way out; adapters/gateway_usage.py reads it.
local LEAVING_COUNTER = "spangate_leaving"

-- Names that have been looked at: a gateway meets some hundreds.
local GOODS_MAX = 10000
local good, goods = {}, 0

-- The rules of model/identity.py: a trust domain, and a path of segments that are neither empty nor dots. It becomes a
-- header's value and part of a key.
local function is_spiffe_id(id)
  return #id <= 2048 and find(id, "^spiffe://[%l%d%._-]+/[%w%._/-]*[%w%._-]$") and not find(id, "//", 10, true)
    and not find(id .. "/", "/%.%.?/", 10)
end

-- The peer's SPIFFE ID from its verified certificate. Refuses anything else.
local function peer(handle)
  local connection = handle:streamInfo():downstreamSslConnection()
  if not connection or not connection:peerCertificatePresented() then
    refuse("no-certificate", "no client certificate: Spangate lets in only workloads with an X.509-SVID; "
      .. "start the program with `spangate run --as <identity> -- <command>`")
  end
  local uris = connection:uriSanPeerCertificate()
  if not connection:peerCertificateValidated() then
    refuse("untrusted-certificate", "the client certificate of " .. printable(uris[1] or "nobody", 256)
      .. " is not accepted: it has ended, or comes from another authority or trust domain than this gateway's")
  end
  -- Envoy verifies at the handshake, but a connection may outlive its certificate. The gateway closes connections long
  -- before a renewed one would be seen here as ended (CONNECTION_SECONDS_MAX in compiler/gateway.py).
  if clock(handle) >= connection:expirationPeerCertificate() * 1000 then
    refuse("untrusted-certificate", "the client certificate of " .. printable(uris[1] or "nobody", 256)
      .. " has ended since this connection was opened; connect again with a new one")
  end
  if #uris ~= 1 then refuse("untrusted-certificate", "the client certificate must have exactly one URI name") end
  local id = uris[1]
  if not good[id] then
    if not is_spiffe_id(id) then
      refuse("untrusted-certificate", "the client certificate's URI name is not a SPIFFE ID")
    end
    if goods >= GOODS_MAX then good, goods = {}, 0 end
    good[id], goods = true, goods + 1
  end
  return id
end

-- A connection outlives a change of roots. While a root is on its way out, whoever speaks under it is served and asked to
-- connect anew; once it is gone, nobody is. Called after decisions.refresh, so that it knows of both in time.
local function check_root(handle)
  local issuers = state.issuers
  if not issuers then return end
  local info = handle:streamInfo()
  local connection = info:downstreamSslConnection()
  local found = connection and issuers[connection:issuerPeerCertificate()]
  if not found then return end
  info:drainConnectionUponCompletion()
  if found == LEAVING then
    handle:stats():counter(LEAVING_COUNTER):inc()
  else
    refuse("retired-certificate", "the root of this connection's client certificate has been retired; "
      .. "connect again with a new certificate", UNAVAILABLE)
  end
end

return { identify = peer, check_root = check_root }
