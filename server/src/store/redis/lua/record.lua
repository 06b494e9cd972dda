-- record.lua: what the scripts share; it stands behind each one's first line. The layout is told in record.rs.
-- Every script: KEYS[1] the record's key; in ms of Redis's clock: ARGV[1] not after, past it nothing is written, and
-- ARGV[2] since: the earliest moment at which the operation can have come to the server.
-- Every answer: { status, key, now in ms, expiry in ms or 0, record or '' }; status LATE when it came too late.
-- Strings are compared for equality only: the order of `<` depends on the server's locale.
local HEADER, LAYOUT, SLOT, SLOTS = 266, '>BI2c16I6I6I6I6c32c32c32I6c112I6I2', 14, 8
local NONE = string.rep('\0', 32)
local key, now = KEYS[1], redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local late = now > tonumber(ARGV[1])

local function answer(status, record, body)
  return { status, key, now, record and record.expiry or 0, body or '' }
end

-- The record under the key: its fields, without the data. nil if there is none that lives; then whether a tombstone is there.
local function read()
  local head = redis.call('GETRANGE', key, 0, HEADER + 255)
  local kind = string.sub(head, 1, 1)
  if kind ~= 'R' then return nil, kind == 'T' end
  local r = { expiry = redis.call('PEXPIRETIME', key) }
  if r.expiry < 0 then return nil end
  local length
  r.format, length, r.handle, r.version, r.deadline, r.created, r.idle, r.salt, r.current, r.previous, r.minted,
    r.ring, r.floor, r.subject_length = struct.unpack(LAYOUT, head, 2)
  if r.format ~= 1 or length ~= HEADER then error({ err = 'FORMAT of the record is unknown' }) end
  r.subject = string.sub(head, HEADER + 1, HEADER + r.subject_length)
  return r
end

local function data_of(r)
  return redis.call('GETRANGE', key, HEADER + #r.subject, -1)
end

-- Header and subject as they are stored.
local function head_of(r)
  return 'R' .. struct.pack(LAYOUT, 1, HEADER, r.handle, r.version, r.deadline, r.created, r.idle, r.salt, r.current,
    r.previous, r.minted, r.ring, r.floor, #r.subject) .. r.subject
end

-- Adds the newest mark; the one that falls out raises the floor.
local function push(r, mark)
  local fallen = struct.unpack('>I6', r.ring, SLOT * (SLOTS - 1) + 9)
  if fallen > r.floor then r.floor = fallen end
  r.ring = mark .. struct.pack('>I6', now) .. string.sub(r.ring, 1, SLOT * (SLOTS - 1))
end

-- Stores a string for a span of ms.
local function put(value, ttl)
  if ttl % 1000 == 0 then
    redis.call('SETEX', key, ttl / 1000, value)
  else
    redis.call('PSETEX', key, ttl, value)
  end
end

-- When a session ends that is used now and then never again.
local function expiry_of(r)
  return math.min(now + r.idle, r.deadline)
end
