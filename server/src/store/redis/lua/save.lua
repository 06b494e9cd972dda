#!lua
-- save.lua: changes a session that lives; never makes one.
-- A script, because what decides (secret, marks, version) and what is decided must not come apart.
-- ARGV: 5 hash shown · 6 mark · 7 expected: `*`, `?` for unreadable, or `=` · 8 its version · 9 its mark
--       10 salt and 11 hash to rotate, or '' · 12 absolute deadline: BEGIN, SHORTEN or '' to keep it · 13 its ms from now
--       14 repeat window ms · 15 a subject is given: 1 or '' · 16 the subject · 17 idle timeout ms, or ''
--       18 max bytes of a merge · 19 want data: 1 or '' · 20 change: KEEP, REPLACE or MERGE
--       21 the data, or the first of pairs: key, its entry or '' to remove it
-- Answers, in this order: MISSING · REPLACED or REPLACED_MAYBE_APPLIED (the secret is the previous one), with the record if
--   this is a rotate within the window · REPEAT with the record · UNKNOWN · SUBJECT_NEEDS_ROTATE · CONFLICT · TOO_LARGE
--   STORED with header, subject, and with the data if wanted and not the one just sent · LATE.
-- Only STORED wrote. Safe to run twice: REPEAT, or for a rotate REPLACED with what proves the repeat.
local shown, mark, since, expected, rotate = ARGV[5], ARGV[6], tonumber(ARGV[2]), ARGV[7], ARGV[11] ~= ''
if late then return answer('LATE') end
local r = read()
if not r then return answer('MISSING') end
local want = ARGV[19] ~= ''

local function full()
  return reply_head_of(r) .. (want and data_of(r) or '')
end

-- A find that does not begin at a slot is a coincidence across two of them.
local at = string.find(r.ring, mark, 1, true)
while at and at % SLOT ~= 1 do at = string.find(r.ring, mark, at + 1, true) end
local marked, match, count = at ~= nil, false, #r.ring / SLOT
-- An operation pins a version that the ring still reaches back to: had it been applied since, its mark would be there.
local pinned = false
if expected == '=' then
  local back = r.version - tonumber(ARGV[8])
  if back == count then
    pinned = true
  elseif back >= 0 and back < count then
    pinned = string.sub(r.ring, SLOT * back + 1, SLOT * back + 8) == ARGV[9]
    match = pinned and back == 0
  end
end
local forgotten = not pinned and r.floor >= since

if shown ~= r.current then
  if r.previous == NONE or shown ~= r.previous then return answer('MISSING') end
  local status = (marked or forgotten) and 'REPLACED_MAYBE_APPLIED' or 'REPLACED'
  if rotate and now <= r.minted + tonumber(ARGV[14]) then
    again()
    return answer(status, r, full())
  end
  return answer(status)
end
if marked then
  again()
  return answer('REPEAT', r, full())
end
if forgotten then return answer('UNKNOWN') end
local subject = ARGV[15] ~= '' and ARGV[16] or r.subject
if subject ~= r.subject and not rotate then return answer('SUBJECT_NEEDS_ROTATE') end
local change = ARGV[20]
if change == 'REPLACE' and expected ~= '*' and not match then return answer('CONFLICT') end

local function varint(s, at)
  local value, place, byte = 0, 1, string.byte(s, at)
  while byte >= 128 do
    value, place, at = value + (byte - 128) * place, place * 128, at + 1
    byte = string.byte(s, at)
  end
  return value + byte * place, at + 1
end

-- The data with each named key's entry in place of the stored one; new keys come last. Only whole entries are moved, and
-- what lies between two changed keys is moved in one piece.
local function merge(data)
  local changes, parts, copied, at, length = {}, {}, 1, 1, #data
  for i = 21, #ARGV, 2 do changes[ARGV[i]] = ARGV[i + 1] end
  while at <= length do
    local size, inner = varint(data, at + 1)
    local key_size, key_at = varint(data, inner + 1)
    local name = string.sub(data, key_at, key_at + key_size - 1)
    local entry, after = changes[name], inner + size
    if entry then
      parts[#parts + 1] = string.sub(data, copied, at - 1)
      parts[#parts + 1] = entry
      changes[name], copied = nil, after
    end
    at = after
  end
  parts[#parts + 1] = string.sub(data, copied)
  for i = 21, #ARGV, 2 do
    if changes[ARGV[i]] then parts[#parts + 1] = ARGV[i + 1] end
  end
  return table.concat(parts)
end

local data
if change == 'REPLACE' then
  data = ARGV[21]
elseif change == 'KEEP' then
  data = data_of(r)
else
  data = merge(data_of(r))
  if #data > tonumber(ARGV[18]) then return answer('TOO_LARGE') end
end

r.version = r.version + 1
push(r, mark)
r.subject = subject
if ARGV[17] ~= '' then r.idle = tonumber(ARGV[17]) end
if rotate then
  r.previous, r.current, r.salt, r.minted = r.current, ARGV[11], ARGV[10], now
end
if ARGV[12] == 'BEGIN' then
  r.deadline = now + tonumber(ARGV[13])
elseif ARGV[12] == 'SHORTEN' then
  r.deadline = math.min(r.deadline, now + tonumber(ARGV[13]))
end
r.expiry = expiry_of(r)
local head = put(r, data)
return answer('STORED', r, (want and change ~= 'REPLACE') and head .. data or head)
