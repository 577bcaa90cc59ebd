//! What has to happen at once, as scripts that Redis runs.
//!
//! A record is a hash: its generation `g`, and the sealed record `r`. Generations are compared as
//! text, because Lua's numbers have 53 bits. The lease is a key of its own, which expires by itself.

use redis::Script;

#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) read: Script,
    pub(super) acquire: Script,
    pub(super) save: Script,
    pub(super) release: Script,
    pub(super) remove: Script,
}

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            read: Script::new(READ),
            acquire: Script::new(ACQUIRE),
            save: Script::new(SAVE),
            release: Script::new(RELEASE),
            remove: Script::new(REMOVE),
        }
    }
}

/// Reads the record. Keys: record.
const READ: &str = r"
return redis.call('HGET', KEYS[1], 'r')
";

/// Takes the lease, if nobody else has it, and reads the record. That it is ours already happens
/// when the answer was lost.
///
/// Keys: record, lease. Arguments: owner, milliseconds. Gives `{1, record, 0}`, or `{0, false, how
/// many milliseconds the lease of somebody else still has}`.
const ACQUIRE: &str = r"
local holder = redis.call('GET', KEYS[2])
if not holder or holder == ARGV[1] then
    redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
    return {1, redis.call('HGET', KEYS[1], 'r'), 0}
end
return {0, false, redis.call('PTTL', KEYS[2])}
";

/// Stores the record, if the stored generation is the expected one, and, where that is asked, if the
/// lease is still the owner's. Then says so, which must not matter: whoever may not, or is not heard,
/// has stored it all the same.
///
/// Keys: record, lease. Arguments: expected generation, generation, record, owner, whether the lease
/// must be held, milliseconds to live or 0, the channel to say it on or nothing. Gives `{1, false}`;
/// `{0, record}` if the generation is another one; `{2, false}` if the lease is gone.
const SAVE: &str = r"
if ARGV[5] == '1' and redis.call('GET', KEYS[2]) ~= ARGV[4] then
    return {2, false}
end
local stored = redis.call('HGET', KEYS[1], 'g') or '0'
if stored ~= ARGV[1] then
    return {0, redis.call('HGET', KEYS[1], 'r')}
end
redis.call('HSET', KEYS[1], 'g', ARGV[2], 'r', ARGV[3])
if ARGV[6] == '0' then
    redis.call('PERSIST', KEYS[1])
else
    redis.call('PEXPIRE', KEYS[1], ARGV[6])
end
if ARGV[7] ~= '' then
    redis.pcall('PUBLISH', ARGV[7], ARGV[2])
end
return {1, false}
";

/// Gives the lease back, if it is still the owner's.
///
/// Keys: lease. Arguments: owner.
const RELEASE: &str = r"
if redis.call('GET', KEYS[1]) == ARGV[1] then
    return redis.call('DEL', KEYS[1])
end
return 0
";

/// Removes the record, and gives the lease back, if it is still the owner's.
///
/// Keys: record, lease. Arguments: owner.
const REMOVE: &str = r"
if redis.call('GET', KEYS[2]) == ARGV[1] then
    redis.call('DEL', KEYS[2])
end
return redis.call('DEL', KEYS[1])
";
