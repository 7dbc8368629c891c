-- KEYS: the entry. ARGV: fingerprint, write (id and stamp), holder, lease in ms, retention in ms.
-- Answers with what the claim met: its name, then what it found.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease_until = string.format('%.0f', now + ARGV[4])
local entry = redis.call('HMGET', KEYS[1], 'fingerprint', 'write', 'holder', 'lease_until', 'answer')
local fingerprint, write, holder, held_until, answer = unpack(entry)

if not fingerprint then
    redis.call('HSET', KEYS[1], 'fingerprint', ARGV[1], 'write', ARGV[2], 'holder', ARGV[3], 'lease_until', lease_until)
    redis.call('PEXPIRE', KEYS[1], ARGV[5])
    return { 'claimed' }
end
if answer then
    return { 'answered', fingerprint, answer }
end
-- Its own claim is there when the client asks again because the first answer was lost.
local is_own = holder == ARGV[3]
if fingerprint ~= ARGV[1] or not is_own and now < tonumber(held_until) then
    return { 'pending', fingerprint, write, holder }
end
redis.call('HSET', KEYS[1], 'holder', ARGV[3], 'lease_until', lease_until)
redis.call('PEXPIRE', KEYS[1], ARGV[5])
if is_own and write == ARGV[2] then
    return { 'claimed' }
end
return { 'taken over', fingerprint, write, ARGV[3] }
