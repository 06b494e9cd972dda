#!lua flags=allow-oom
-- destroy.lua: ends a session and leaves a tombstone, so that a create that was held up does not bring it back.
-- A script, because nothing may be written before the secret is verified. It writes when Redis is out of memory, too.
-- ARGV: 5 hash shown · 6 expected: `*`, `?` for unreadable, or `=` · 7 its version · 8 its mark · 9 repeat window ms
--       10 tombstone s
-- Answers: DONE: it is gone · ABSENT: nothing was there to be proven · CONFLICT: another version, nothing changed · LATE.
-- Safe to run twice: DONE, by what the tombstone holds.
if late then return answer('LATE') end
local r, destroyed = read()
if destroyed and (ARGV[5] == string.sub(destroyed, 1, 32) or ARGV[5] == string.sub(destroyed, 33)) then
  again()
  return answer('DONE')
end
if not r then return answer('ABSENT') end
local expected, fits = ARGV[6], nil
if ARGV[5] == r.current then
  fits = expected == '*'
    or (expected == '=' and r.version == tonumber(ARGV[7]) and string.sub(r.ring, 1, 8) == ARGV[8])
elseif r.previous ~= NONE and ARGV[5] == r.previous and now <= r.minted + tonumber(ARGV[9]) then
  -- A logout that raced a rotate wins, but for one that named a version.
  fits = expected == '*'
else
  return answer('ABSENT')
end
if not fits then return answer('CONFLICT') end
redis.call('SETEX', key, ARGV[10], 'T' .. string.char(FORMAT) .. r.current .. r.previous)
return answer('DONE')
