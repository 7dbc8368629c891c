//! The keys that clients choose from, and values that say where they belong: tenant, key and operation, then padding.
//! No two writes write the same.

use bytes::Bytes;

use crate::op::OpId;

/// The n-th key's name, from 0.
#[must_use]
pub fn key_name(number: u8) -> String {
    // "bc" of tenant "a" and "c" of tenant "ab": isolation must not depend on where a name ends.
    ["bc", "c", "", "d", "e", "f"]
        .get(usize::from(number))
        .map_or_else(|| format!("k{number}"), |suffix| format!("{suffix}k"))
}

/// The value that operation `op` writes.
#[must_use]
pub fn make(tenant: &str, key: &str, op: OpId, padding: usize) -> Bytes {
    let mut value = format!("{tenant}/{key}#{}|", op.0).into_bytes();
    let len = value.len() + padding;
    value.reserve_exact(padding + WORD);
    for word in fillers(op).take(padding.div_ceil(WORD)) {
        value.extend_from_slice(&word);
    }
    value.truncate(len);
    value.into()
}

/// The operation that wrote `value` to `key` of `tenant`; `None` when no operation can have.
#[must_use]
pub fn parse(tenant: &str, key: &str, value: &[u8]) -> Option<OpId> {
    let end = value.iter().position(|byte| *byte == b'|')?;
    let name = str::from_utf8(&value[..end]).ok()?;
    let (place, op) = name.rsplit_once('#')?;
    let number: u32 = op.parse().ok()?;
    let here = place.strip_prefix(tenant)?.strip_prefix('/')? == key;
    let mut words = value[end + 1..].chunks(WORD).zip(fillers(OpId(number)));
    let genuine = here
        && op == number.to_string()
        && words.all(|(found, made)| *found == made[..found.len()]);
    genuine.then_some(OpId(number))
}

const WORD: usize = 8;

/// Letters without end, other ones for each operation. Values are checked each time they are seen: eight at a time.
fn fillers(op: OpId) -> impl Iterator<Item = [u8; WORD]> {
    let mut state = u64::from(op.0);
    std::iter::repeat_with(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let letters = (state >> 4 & 0x0f0f_0f0f_0f0f_0f0f) + 0x6161_6161_6161_6161;
        letters.to_le_bytes()
    })
}

/// Where a value was written, as `tenant/key`, and by which operation; `None` when it is nobody's.
#[must_use]
pub fn origin(value: &[u8]) -> Option<(String, OpId)> {
    let end = value.iter().position(|byte| *byte == b'|')?;
    let (place, _) = str::from_utf8(&value[..end]).ok()?.rsplit_once('#')?;
    let (tenant, key) = place.split_once('/')?;
    Some((place.to_owned(), parse(tenant, key, value)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_names_its_write_and_nothing_else_does() {
        let value = make("t", "k", OpId(7), 10);
        assert_eq!(parse("t", "k", &value), Some(OpId(7)));
        assert_eq!(parse("t", "other", &value), None);
        assert_eq!(parse("t/k", "", &value), None);
        assert_eq!(parse("t", "k", &value[..value.len() - 1]), Some(OpId(7)));
        let mut damaged = value.to_vec();
        damaged[9] ^= 1;
        assert_eq!(parse("t", "k", &damaged), None);
        assert_eq!(parse("t", "k", b""), None);
        assert_eq!(origin(&value), Some(("t/k".to_owned(), OpId(7))));
        assert_eq!(origin(&damaged), None);
    }
}
