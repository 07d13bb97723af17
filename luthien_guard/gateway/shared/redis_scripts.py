"""What is done at one stroke in a Redis, by its own clock."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["Client"]

# %.0f: Lua would write numbers of this size in a form that loses digits
_TAKE: Final = """
local time = redis.call('TIME')
local now, interval, ahead = time[1] * 1000000 + time[2], tonumber(ARGV[1]), tonumber(ARGV[2])
local full = tonumber(redis.call('GET', KEYS[1]) or now)
full = math.min(math.max(full, now), now + ahead + interval)
local wait = full - now - ahead
if wait > 0 then return string.format('%.0f', wait) end
full = full + interval
redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', string.format('%.0f', math.ceil((full - now) / 1000)))
return '0'"""
_ANNOUNCE: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = string.format('%.0f', now + ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], ends .. ' ' .. ARGV[2])
local said, found = redis.call('HGETALL', KEYS[1]), {}
for at = 1, #said, 2 do
  local ends, version = string.match(said[at + 1], '^(%d+) (.*)$')
  if ends and tonumber(ends) > now then
    found[#found + 1] = said[at]
    found[#found + 1] = version
  else
    redis.call('HDEL', KEYS[1], said[at])
  end
end
return found"""
_REVOKE: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
return redis.call('HSETNX', KEYS[1], 'revoked_at', ARGV[1])"""


class Client:
    """The driver's client, and the scripts on it. `patience`: seconds for connecting, and for an answer."""

    def __init__(self, url: str, patience: float) -> None:
        import coredis

        self.redis: Any = coredis.Redis.from_url(
            url, decode_responses=True, connect_timeout=patience, stream_timeout=patience
        )
        self.take: Any = self.redis.register_script(_TAKE)
        self.announce: Any = self.redis.register_script(_ANNOUNCE)
        self.revoke: Any = self.redis.register_script(_REVOKE)
