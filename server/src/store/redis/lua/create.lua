#!lua
-- create.lua: stores a new session where there is none.
-- A script, because a taken key must be looked into before anything is written: a plain SET NX cannot tell a repeat.
-- ARGV: 5 handle · 6 mark · 7 salt · 8 hash · 9 subject · 10 idle timeout ms · 11 lifetime ms · 12 repeat window ms · 13 data
-- Answers: STORED with header and subject · EXISTS with the record, if its secret was minted within the window
--          UNKNOWN if earlier · GONE where a tombstone is · LATE. Only STORED wrote. Safe to run twice: EXISTS.
if late then return answer('LATE') end
local there, destroyed = read()
if destroyed then return answer('GONE') end
if there then
  if now > there.minted + tonumber(ARGV[12]) then return answer('UNKNOWN') end
  return answer('EXISTS', there, reply_head_of(there) .. data_of(there))
end
local r = {
  handle = ARGV[5], version = 1, deadline = now + tonumber(ARGV[11]), created = now, idle = tonumber(ARGV[10]),
  salt = ARGV[7], current = ARGV[8], previous = NONE, minted = now, floor = 0,
  tagged = '', subject = ARGV[9], ring = '',
}
push(r, ARGV[6])
r.expiry = expiry_of(r)
return answer('STORED', r, put(r, ARGV[13]))
