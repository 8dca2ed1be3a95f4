-- Who speaks: the verified certificate of the connection.

local find = string.find
local refuse, printable = refusal.refuse, refusal.printable
local clock = decisions.clock

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
  -- It becomes a header's value and part of a key. A SPIFFE ID has no other characters.
  if not find(uris[1], "^spiffe://[%w%._/-]+$") then
    refuse("untrusted-certificate", "the client certificate's URI name is not a SPIFFE ID")
  end
  return uris[1]
end

return { identify = peer }
