#!lua flags=allow-oom
-- renew.lua: extends a living session by its idle timeout, up to its absolute deadline, if that gains enough.
-- A script, because it goes by what is stored when it runs: a Save may have shortened the life, a Destroy ended it.
-- ARGV: 5 hash shown · 6 so many parts of the life, of which more than one must be gained
-- Answers: DONE, whether it wrote or not · LATE. Safe to run twice: the second gains nothing.
if late then return answer('LATE') end
local r = read()
if r and ARGV[5] == r.current then
  local expiry = expiry_of(r)
  if (expiry - r.expiry) * tonumber(ARGV[6]) > expiry - now then
    redis.call('PEXPIREAT', key, expiry)
  end
end
return answer('DONE')
