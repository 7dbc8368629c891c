-- KEYS: the entry. ARGV: holder. An answer has none.
if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then
    redis.call('HSET', KEYS[1], 'lease_until', '0')
end
return {}
