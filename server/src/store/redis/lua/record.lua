-- record.lua: what the scripts share; it stands behind each one's first line. The layout is told in record.rs.
-- Every script: KEYS[1] the record's key; in ms of Redis's clock: ARGV[1] not after, past it nothing is written, and
-- ARGV[2] since: the earliest moment at which the operation can have come to the server; ARGV[3] the question's number, by
-- which its answer is known from any other; ARGV[4] 1 if a WAIT follows, or ''.
-- Every answer: { status, the number, now in ms, expiry in ms or 0, record or '' }; status LATE when it came too late.
-- Strings are compared for equality only: the order of `<` depends on the server's locale.
local FIXED, LAYOUT = 154, '>BI2c16I6I6I6I6c32c32c32I6I6I2'
-- Of marks: bytes of each, how many stay however old, how many at most, and for how many ms younger ones stay besides.
local SLOT, KEPT, MAX, SPAN = 14, 8, 64, 3000
local NONE = string.rep('\0', 32)
local key, now = KEYS[1], redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local late = now > tonumber(ARGV[1])

local function answer(status, record, body)
  return { status, ARGV[3], now, record and record.expiry or 0, body or '' }
end

-- A repeat writes nothing new. But a WAIT waits for what its own connection wrote: for it, what the first attempt wrote is
-- written once more, as it is.
local function again()
  -- Where the script may not write, as Redis is out of memory, its caller knows.
  if ARGV[4] ~= '' then redis.pcall('PEXPIREAT', key, redis.call('PEXPIRETIME', key)) end
end

local function foreign()
  error({ err = 'FORMAT of what lies under the key is unknown' })
end

-- The record under the key: its fields, without the data. nil if there is none that lives; then the hashes in the tombstone,
-- the current one and the previous one, if there is a tombstone.
local function read()
  local head = redis.call('GETRANGE', key, 0, FIXED + SLOT * MAX + 255)
  local kind = string.sub(head, 1, 1)
  if kind == '' then return nil end
  if kind == 'T' then return nil, string.sub(head, 2) end
  if kind ~= 'R' or #head < FIXED then foreign() end
  local r = { expiry = redis.call('PEXPIRETIME', key) }
  -- No TTL is -1; and in its last millisecond Redis still shows a key that has ended.
  if r.expiry <= now then return nil end
  local length
  r.format, length, r.handle, r.version, r.deadline, r.created, r.idle, r.salt, r.current, r.previous, r.minted,
    r.floor, r.subject_length = struct.unpack(LAYOUT, head, 2)
  if r.format ~= 1 then foreign() end
  r.ring = string.sub(head, FIXED + 1, length)
  r.subject = string.sub(head, length + 1, length + r.subject_length)
  if #r.subject ~= r.subject_length then foreign() end
  r.data_at = length + r.subject_length
  return r
end

local function data_of(r)
  return redis.call('GETRANGE', key, r.data_at, -1)
end

-- Header and subject as they are stored.
local function head_of(r)
  return 'R' .. struct.pack(LAYOUT, 1, FIXED + #r.ring, r.handle, r.version, r.deadline, r.created, r.idle, r.salt, r.current,
    r.previous, r.minted, r.floor, #r.subject) .. r.ring .. r.subject
end

-- Adds the newest mark, and drops what need not be kept; that raises the floor.
local function push(r, mark)
  local ring, count = mark .. struct.pack('>I6', now) .. r.ring, #r.ring / SLOT + 1
  while count > KEPT do
    local oldest = struct.unpack('>I6', ring, SLOT * (count - 1) + 9)
    if count <= MAX and now - oldest < SPAN then break end
    if oldest > r.floor then r.floor = oldest end
    count = count - 1
  end
  r.ring = string.sub(ring, 1, SLOT * count)
end

-- Stores the record until its expiry. Redis counts the TTL from its own view of now, at times a millisecond off: an idle
-- timeout is told as it came to be, an absolute deadline is kept to the letter.
local function put(r, value)
  local ttl = r.expiry - now
  if ttl % 1000 == 0 then
    redis.call('SETEX', key, ttl / 1000, value)
  else
    redis.call('PSETEX', key, ttl, value)
  end
  if r.expiry == r.deadline then
    redis.call('PEXPIREAT', key, r.expiry)
  else
    r.expiry = redis.call('PEXPIRETIME', key)
  end
end

-- When a session ends that is used now and then never again.
local function expiry_of(r)
  return math.min(now + r.idle, r.deadline)
end
