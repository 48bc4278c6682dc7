"""The two scripts that run inside the server, and what their answers mean.

Everything that one store writes stands in *one hash*, so that it is compared, written, lost,
evicted and renamed as one, and lies in one slot of a Redis Cluster:

    format   1
    world    a random name: see below
    history  the server's replication id at the time when the world began
    serial   a counter: the number of the last write
    KEY      "SERIAL VALUE": a key of the driver, with the number of the write that left it

Worlds
------
A *world* is a time in which the server has certainly forgotten nothing. A version names a world and
a write in it; what another world wrote does not exist any more, and counts as absent, which whoever
wants to take it over has to wait out. A world ends

- when the server begins another history: its replication id is a new one after each start, after
  each promotion from replica to primary, and when a first replica joins. Whether it came back with
  all of its data, with those of an old dump, or with none, cannot be told from inside, so nothing
  that it came back with is believed. (A record that was vacant when an old dump was written looks
  as if it could be taken, and has a holder who lives.)
- when the hash is gone: FLUSHALL, an eviction, a data set that was swapped for another;
- when the counter is missing, or lower than what an entry or whoever writes has seen.

Warning: an old copy of the hash that somebody puts in its place, while the server runs, is noticed
only by those who have seen more than is in it. A newcomer may believe it first.

The next write begins another world. Its counter goes on, or starts at the server's wall clock in
microseconds, whichever is greater, so that fencing tokens grow over all this unless the clock was
set back. It is the only use of a wall clock, and no decision hangs on it; nothing here expires by
the server's clock. (Microseconds, for a busy store may write more than a thousand times a second,
and fewer than a million.)

A *bar* (`kv.wire`) is taken over into the next world, as a write in that one. To believe one that
came back from an old dump costs somebody a command that lifts it again; not to believe one would
let in those whom it keeps out, beside whoever leads in another store.

Rules
-----
1. **A write says in which world its writer believes to be**, and is not made in another one. So the
   writer learns of the end of a world before anything else, and tells those who follow.
2. **Whatever can fail comes first**: a script that fails is not undone. The first command of a
   change moves the counter (refused where writing is: out of memory, read-only, a full disk), the
   second publishes, the one that writes the entries comes last. So an answer that is an error says
   that nothing was written.
3. **Numbers pass as text**: Lua's are floating point, exact up to 2^53, which is the year 2255.
"""

from __future__ import annotations

__all__ = ["CHANGE", "FORMAT", "READ"]

FORMAT = "1"

_PRELUDE = """
local key = KEYS[1]
local info = redis.call('INFO', 'replication')
if not string.find(info, 'role:master', 1, true) then
  return redis.error_reply('INCUMBENT replica')
end
local history = string.match(info, 'master_replid:(%w+)')
if not history then
  return redis.error_reply('INCUMBENT nameless')
end
local replicas = string.match(info, 'connected_slaves:(%d+)') or '0'
local meta = redis.call('HMGET', key, 'format', 'world', 'history', 'serial')
if meta[1] ~= '1' and (meta[1] or redis.call('HLEN', key) > 0) then
  return redis.error_reply('INCUMBENT format ' .. (meta[1] or ''))
end
local world, serial = meta[2] or '', tonumber(meta[4] or '')
if meta[3] ~= history or not serial then world = '' end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function text(number) return string.format('%.0f', number) end
local function is_bar(field, value)
  return value and string.find(field, 'elections/', 1, true) == 1
    and string.find(value, '^%d+ {"bar":')
end
"""

READ = (
    _PRELUDE
    + """
local reply = {world, text(world == '' and math.max(serial or 0, now) or serial), replicas}
if #ARGV == 0 then
  local words = redis.call('HGETALL', key)
  for i = 1, #words, 2 do
    if world ~= '' or is_bar(words[i], words[i + 1]) then
      reply[#reply + 1] = words[i]
      reply[#reply + 1] = words[i + 1]
    end
  end
else
  for i, value in ipairs(redis.call('HMGET', key, unpack(ARGV))) do
    reply[#reply + 1] = (world ~= '' or is_bar(ARGV[i], value)) and value
  end
end
return reply
"""
)
"""Reads keys of the hash.

Arguments: the keys; none for all, which are answered with their names.

Answer: the world, or "" if none has begun since the last one ended; its counter, or a number that
is not below any; how many replicas there are; the values, and of no world those of bars.
"""

CHANGE = (
    _PRELUDE
    + """
local expected, begin, high, channel = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local place = 4
local function pairs_of()
  local found = {}
  for _ = 1, tonumber(ARGV[place + 1]) do
    found[#found + 1] = {ARGV[place + 2], ARGV[place + 3]}
    place = place + 2
  end
  place = place + 1
  return found
end
local ours, conditions, writes, removals = pairs_of(), pairs_of(), pairs_of(), pairs_of()
local function number_of(field)
  local entry = redis.call('HGET', key, field)
  return entry and (string.match(entry, '^(%d+) ') or '?') or ''
end
local moved = {}
local function answer(word)
  local reply = {word, world, text(serial or 0), replicas}
  for _, field in ipairs(moved) do reply[#reply + 1] = field end
  return reply
end

if world ~= expected then return answer('world') end
local function bars()
  local found, words = {}, redis.call('HGETALL', key)
  for i = 1, #words, 2 do
    if is_bar(words[i], words[i + 1]) then
      found[#found + 1] = words[i]
      found[#found + 1] = words[i + 1]
    end
  end
  return found
end
if world == '' then
  if begin == '' then return answer('conflict') end
  serial = math.max(serial or 0, now, high)
  local kept = bars()
  for i = 2, #kept, 2 do
    serial = serial + 1
    kept[i] = string.gsub(kept[i], '^%d+', text(serial))
  end
  redis.call('DEL', key)
  redis.call('HSET', key, 'format', '1', 'world', begin, 'history', history, 'serial', text(serial),
             unpack(kept))
  world = begin
end
local met = true
for _, condition in ipairs(conditions) do
  local number = number_of(condition[1])
  if number ~= condition[2] then met = false end
  high = math.max(high, tonumber(number) or 0)
end
if serial < high then
  local kept = bars()
  redis.call('DEL', key)
  redis.call('HSET', key, 'format', '1', 'serial', text(math.max(high, now)), unpack(kept))
  world = ''
  return answer('world')
end
for _, one in ipairs(ours) do
  if number_of(one[1]) ~= one[2] then moved[#moved + 1] = one[1] end
end
if not met then return answer('conflict') end
if #writes + #removals == 0 then return answer('done') end

serial = redis.call('HINCRBY', key, 'serial', 1)
local number = text(serial)
local entries, gone = {}, {}
for _, write in ipairs(writes) do
  redis.call('PUBLISH', channel .. write[1], world .. ' ' .. number .. ' ' .. write[2])
  entries[#entries + 1] = write[1]
  entries[#entries + 1] = number .. ' ' .. write[2]
end
for _, removal in ipairs(removals) do
  redis.call('PUBLISH', channel .. removal[1], world .. ' ' .. number)
  gone[#gone + 1] = removal[1]
end
if #gone > 0 then redis.call('HDEL', key, unpack(gone)) end
if #entries > 0 then redis.call('HSET', key, unpack(entries)) end
return answer('done')
"""
)
"""Compares and writes.

Arguments: the world in which the writer believes to be; a name for the next one, or "" not to begin
any; the greatest number that the writer has seen in its world; the beginning of the channels; then
four lists of pairs, each after its length: keys that the writer wrote last, with their numbers;
conditions, a key with its number, or "" for a key that must not be there; writes, a key with its
value; removals, a key with "".

Answer: "done", "conflict", or "world" if it is another one, and then nothing was written; the world
and its counter, as above; how many replicas there are; those of the writer's keys that are not at
their numbers any more.
"""
