-- SipHash-2-4 with an answer of 128 bits: a keyed hash that only who has the key can compute.
--
-- Rules: 64-bit words are two halves of 32 bits, each a signed number as the bit operations give them; a sum's carry is
-- computed from the sign bits. Pure: key and message in, 16 bytes out.
-- Source: Aumasson, Bernstein, "SipHash: a fast short-input PRF", and the reference code's 128-bit variant
-- (https://github.com/veorq/SipHash); tests/unit/test_siphash.py holds it against the published vectors.

local bit = require("bit")
local band, bor, bxor, bnot = bit.band, bit.bor, bit.bxor, bit.bnot
local lshift, rshift, tobit = bit.lshift, bit.rshift, bit.tobit
local byte, char, rep = string.byte, string.char, string.rep

-- One SipRound on v0..v3, each as high and low half.
local function round(ah, al, bh, bl, ch, cl, dh, dl)
  local s, t
  -- v0 += v1; v1 <<<= 13; v1 ^= v0; v0 <<<= 32
  s = tobit(al + bl)
  ah = tobit(ah + bh + rshift(bor(band(al, bl), band(bor(al, bl), bnot(s))), 31))
  al = s
  t = bor(lshift(bh, 13), rshift(bl, 19))
  bl = bxor(bor(lshift(bl, 13), rshift(bh, 19)), al)
  bh = bxor(t, ah)
  ah, al = al, ah
  -- v2 += v3; v3 <<<= 16; v3 ^= v2
  s = tobit(cl + dl)
  ch = tobit(ch + dh + rshift(bor(band(cl, dl), band(bor(cl, dl), bnot(s))), 31))
  cl = s
  t = bor(lshift(dh, 16), rshift(dl, 16))
  dl = bxor(bor(lshift(dl, 16), rshift(dh, 16)), cl)
  dh = bxor(t, ch)
  -- v0 += v3; v3 <<<= 21; v3 ^= v0
  s = tobit(al + dl)
  ah = tobit(ah + dh + rshift(bor(band(al, dl), band(bor(al, dl), bnot(s))), 31))
  al = s
  t = bor(lshift(dh, 21), rshift(dl, 11))
  dl = bxor(bor(lshift(dl, 21), rshift(dh, 11)), al)
  dh = bxor(t, ah)
  -- v2 += v1; v1 <<<= 17; v1 ^= v2; v2 <<<= 32
  s = tobit(cl + bl)
  ch = tobit(ch + bh + rshift(bor(band(cl, bl), band(bor(cl, bl), bnot(s))), 31))
  cl = s
  t = bor(lshift(bh, 17), rshift(bl, 15))
  bl = bxor(bor(lshift(bl, 17), rshift(bh, 15)), cl)
  bh = bxor(t, ch)
  return ah, al, bh, bl, cl, ch, dh, dl
end

-- Four bytes of s from i on, the lowest first.
local function half(s, i)
  local a, b, c, d = byte(s, i, i + 3)
  return bor(a, lshift(b, 8), lshift(c, 16), lshift(d, 24))
end

local function bytes_of(h)
  return char(band(h, 255), band(rshift(h, 8), 255), band(rshift(h, 16), 255), rshift(h, 24))
end

-- A key of 16 bytes as hash128 takes it.
local function key_of(bytes)
  return { half(bytes, 1), half(bytes, 5), half(bytes, 9), half(bytes, 13) }
end

-- The 16 bytes of SipHash-2-4-128 of `message`.
local function hash128(key, message)
  local k0l, k0h, k1l, k1h = key[1], key[2], key[3], key[4]
  local ah, al = bxor(k0h, 0x736f6d65), bxor(k0l, 0x70736575)
  local bh, bl = bxor(k1h, 0x646f7261), bxor(k1l, 0x6e646f6d, 0xee)
  local ch, cl = bxor(k0h, 0x6c796765), bxor(k0l, 0x6e657261)
  local dh, dl = bxor(k1h, 0x74656462), bxor(k1l, 0x79746573)
  local length = #message
  -- The last word: what is left over, zeros, and the length.
  local padded = message .. rep("\0", 7 - length % 8) .. char(length % 256)
  for i = 1, #padded, 8 do
    local ml, mh = half(padded, i), half(padded, i + 4)
    dh, dl = bxor(dh, mh), bxor(dl, ml)
    ah, al, bh, bl, ch, cl, dh, dl = round(ah, al, bh, bl, ch, cl, dh, dl)
    ah, al, bh, bl, ch, cl, dh, dl = round(ah, al, bh, bl, ch, cl, dh, dl)
    ah, al = bxor(ah, mh), bxor(al, ml)
  end
  cl = bxor(cl, 0xee)
  for _ = 1, 4 do ah, al, bh, bl, ch, cl, dh, dl = round(ah, al, bh, bl, ch, cl, dh, dl) end
  local first = bytes_of(bxor(al, bl, cl, dl)) .. bytes_of(bxor(ah, bh, ch, dh))
  bl = bxor(bl, 0xdd)
  for _ = 1, 4 do ah, al, bh, bl, ch, cl, dh, dl = round(ah, al, bh, bl, ch, cl, dh, dl) end
  return first .. bytes_of(bxor(al, bl, cl, dl)) .. bytes_of(bxor(ah, bh, ch, dh))
end

return { key_of = key_of, hash128 = hash128 }
