//! Any bytes are a record or an error. What is taken is well-formed and comes back byte for byte.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use pairdb_fuzz::sealed;
use pairdb_fuzz::version::Record;

fn check(input: Bytes) {
    let Ok(record) = Record::decode(input.clone()) else { return };
    assert_eq!(record.encode(), input, "canonical");
    let parts = Record::new(record.seen().clone(), record.siblings().to_vec());
    assert_eq!(parts.as_ref(), Ok(&record), "well-formed");
}

fuzz_target!(|data: &[u8]| {
    check(Bytes::copy_from_slice(data));
    check(sealed(data));
});
