-- record.lua: what the scripts share; it stands behind each one's first line. The layout is a table in record.rs.
-- Every script: KEYS[1] the record's key; in ms of Redis's clock: ARGV[1] not after, past it nothing is written, and
-- ARGV[2] since: the earliest moment at which the operation can have come to the server; ARGV[3] the request's number, which
-- identifies its reply; ARGV[4] 1 if a WAIT follows, or ''.
-- Every reply: { status, the number, now in ms, expiry in ms or 0, record or '' }; status LATE when it came too late.
-- Strings are compared for equality only: the order of `<` depends on the server's locale.
local FORMAT, FIXED, LAYOUT = 2, 156, '>Bc16I6I6I6I6c32c32c32I6I6I2I2I2'
-- Of marks: bytes of each, how many stay however old, how many at most, and for how many ms younger ones stay as well.
local SLOT, KEPT, MAX, SPAN = 14, 8, 4000, 5000
-- The most marks in a reply. The server needs two; up to this many, cutting them off would cost more than sending them.
local SHOWN = 64
-- Bytes of the first read: room for the fixed fields, the longest subject and eight marks, and for the data of most sessions.
local FIRST = 1024
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

-- Reads the record under the key: all but its data. Returns nil if no living record is there; then, if a tombstone is, its
-- two hashes: the current one and the previous one.
local function read()
  local head = redis.call('GETRANGE', key, 0, FIRST - 1)
  if head == '' then return nil end
  local kind, format = string.sub(head, 1, 1), string.byte(head, 2)
  if format ~= FORMAT then foreign() end
  -- A later build may keep more behind the hashes.
  if kind == 'T' then return nil, string.sub(head, 3, 66) end
  if kind ~= 'R' or #head < FIXED then foreign() end
  local r = { expiry = redis.call('PEXPIRETIME', key) }
  -- No TTL is -1; and in its last millisecond Redis still shows a key that has ended.
  if r.expiry <= now then return nil end
  local tagged, subject, marks
  format, r.handle, r.version, r.deadline, r.created, r.idle, r.salt, r.current, r.previous, r.minted, r.floor,
    tagged, subject, marks = struct.unpack(LAYOUT, head, 2)
  local subject_at = FIXED + tagged
  local ring_at = subject_at + subject
  r.data_at = ring_at + SLOT * marks
  if #head < FIRST then
    r.whole = head
  elseif r.data_at > FIRST then
    head = head .. redis.call('GETRANGE', key, FIRST, r.data_at - 1)
  end
  if #head < r.data_at then foreign() end
  r.tagged = string.sub(head, FIXED + 1, subject_at)
  r.subject = string.sub(head, subject_at + 1, ring_at)
  r.ring = string.sub(head, ring_at + 1, r.data_at)
  return r
end

local function data_of(r)
  if r.whole then return string.sub(r.whole, r.data_at + 1) end
  return redis.call('GETRANGE', key, r.data_at, -1)
end

-- Everything before the data, with these marks.
local function head_of(r, ring)
  return 'R' .. struct.pack(LAYOUT, FORMAT, r.handle, r.version, r.deadline, r.created, r.idle, r.salt, r.current,
    r.previous, r.minted, r.floor, #r.tagged, #r.subject, #ring / SLOT) .. r.tagged .. r.subject .. ring
end

-- Everything before the data, for a reply: without most of the marks of a hot session, which has thousands.
local function reply_head_of(r)
  return head_of(r, string.sub(r.ring, 1, SLOT * SHOWN))
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

-- Stores the record with this data until its expiry, and returns its head for the reply. Redis counts the TTL from its own
-- view of now, at times a millisecond off: the reply shows an idle timeout as Redis has it, and an absolute deadline is exact.
local function put(r, data)
  local ttl, head = r.expiry - now, head_of(r, r.ring)
  local value = head .. data
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
  return #r.ring > SLOT * SHOWN and reply_head_of(r) or head
end

-- When a session ends that is used now and then never again.
local function expiry_of(r)
  return math.min(now + r.idle, r.deadline)
end
