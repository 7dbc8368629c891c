//! The keys that clients choose from, and values that say where they belong: tenant, key and operation, then padding.
//! No two writes write the same. One write of a key may write nothing at all, which is a value, too: whose it is is
//! known on the run's own thread.

use std::cell::RefCell;
use std::collections::BTreeMap;

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

/// Instead of a value's padding: it has no bytes at all, if no other write of its key has none.
pub const EMPTY: u64 = 1 << 40;

thread_local! {
    /// Who writes nothing to each tenant's key.
    static EMPTY_WRITES: RefCell<BTreeMap<(String, String), OpId>> = const { RefCell::new(BTreeMap::new()) };
}

/// Whether `op` is the write of its key that writes nothing, from now on.
fn is_empty_write(tenant: &str, key: &str, op: OpId) -> bool {
    EMPTY_WRITES.with_borrow_mut(|writes| {
        let place = (tenant.to_owned(), key.to_owned());
        *writes.entry(place).or_insert(op) == op
    })
}

/// The write of nothing to a key.
fn empty_write(tenant: &str, key: &str) -> Option<OpId> {
    EMPTY_WRITES.with_borrow(|writes| {
        let place = (tenant.to_owned(), key.to_owned());
        writes.get(&place).copied()
    })
}

/// The value that operation `op` writes.
#[must_use]
pub fn make(tenant: &str, key: &str, op: OpId, padding: u64) -> Bytes {
    if padding == EMPTY && is_empty_write(tenant, key, op) {
        return Bytes::new();
    }
    let padding = if padding == EMPTY {
        0
    } else {
        padding as usize
    };
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
    if value.is_empty() {
        return empty_write(tenant, key);
    }
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
        let nothing = make("t", "k", OpId(8), EMPTY);
        assert_eq!(
            (nothing.len(), parse("t", "k", &nothing)),
            (0, Some(OpId(8)))
        );
        assert_eq!(
            make("t", "k", OpId(8), EMPTY).len(),
            0,
            "the same once more"
        );
        assert_ne!(
            make("t", "k", OpId(9), EMPTY).len(),
            0,
            "there is one at most"
        );
        assert_eq!(parse("t", "other", b""), None);
        assert_eq!(origin(&value), Some(("t/k".to_owned(), OpId(7))));
        assert_eq!(origin(&damaged), None);
    }
}
