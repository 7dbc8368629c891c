//! Values that say where they belong: tenant, key and operation, then padding. No two writes write the same.

use bytes::Bytes;

use crate::history::OpId;

/// The value that operation `op` writes.
#[must_use]
pub fn make(tenant: &str, key: &str, op: OpId, padding: usize) -> Bytes {
    let mut value = format!("{tenant}/{key}#{}|", op.0).into_bytes();
    let mut filler = op.0;
    value.extend((0..padding).map(|_| {
        filler = filler.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'a' + (filler >> 24) as u8 % 26
    }));
    value.into()
}

/// The operation that wrote `value` to `key` of `tenant`; `None` when no operation can have.
#[must_use]
pub fn parse(tenant: &str, key: &str, value: &[u8]) -> Option<OpId> {
    let end = value.iter().position(|byte| *byte == b'|')?;
    let name = str::from_utf8(&value[..end]).ok()?;
    let (place, op) = name.rsplit_once('#')?;
    let op = OpId(op.parse().ok()?);
    let genuine = place == format!("{tenant}/{key}")
        && *value == make(tenant, key, op, value.len() - end - 1);
    genuine.then_some(op)
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
    }
}
