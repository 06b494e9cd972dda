#!lua
-- create.lua: stores a new session where there is none.
-- A script, because a taken key must be looked into before anything is written: a plain SET NX cannot tell a repeat.
-- ARGV: 3 handle · 4 mark · 5 salt · 6 hash · 7 subject · 8 idle timeout ms · 9 lifetime ms · 10 repeat window ms · 11 data
-- Answers: STORED with header and subject · EXISTS with the record, if its secret was minted within the window
--          UNKNOWN if earlier · GONE where a tombstone is · LATE. Only STORED wrote. Safe to run twice: EXISTS.
if late then return answer('LATE') end
local there, destroyed = read()
if destroyed then return answer('GONE') end
if there then
  if now > there.minted + tonumber(ARGV[10]) then return answer('UNKNOWN') end
  return answer('EXISTS', there, head_of(there) .. data_of(there))
end
local r = {
  handle = ARGV[3], version = 1, deadline = now + tonumber(ARGV[9]), created = now, idle = tonumber(ARGV[8]),
  salt = ARGV[5], current = ARGV[6], previous = NONE, minted = now, ring = '', floor = 0,
  subject = ARGV[7],
}
push(r, ARGV[4])
r.expiry = expiry_of(r)
local head = head_of(r)
put(r, head .. ARGV[11])
return answer('STORED', r, head)
