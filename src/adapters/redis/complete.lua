-- KEYS: the entry. ARGV: fingerprint, answer, retention in ms. Answers with the answer that stands, if it is another one.
local answer = redis.call('HGET', KEYS[1], 'answer')
if answer then
    return { answer }
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'answer', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {}
