#!lua flags=allow-oom
-- destroy.lua: ends a session and leaves a tombstone, so that a create that was held up does not bring it back.
-- A script, because nothing may be written before the secret is verified. It writes when Redis is out of memory, too.
-- ARGV: 3 hash shown · 4 expected: `*`, `?` for unreadable, or `=` · 5 its version · 6 its mark · 7 repeat window ms
--       8 tombstone s
-- Answers: DONE: it is gone, or was not there to be proven · CONFLICT: another version, nothing changed · LATE.
-- Safe to run twice: DONE.
if late then return answer('LATE') end
local r = read()
if not r then return answer('DONE') end
local expected, fits = ARGV[4], nil
if ARGV[3] == r.current then
  fits = expected == '*'
    or (expected == '=' and r.version == tonumber(ARGV[5]) and string.sub(r.ring, 1, 8) == ARGV[6])
elseif r.previous ~= NONE and ARGV[3] == r.previous and now <= r.minted + tonumber(ARGV[7]) then
  -- A logout that raced a rotate wins, but for one that named a version.
  fits = expected == '*'
else
  return answer('DONE')
end
if not fits then return answer('CONFLICT') end
redis.call('SETEX', key, ARGV[8], 'T')
return answer('DONE')
