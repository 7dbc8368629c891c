//! Any bytes are a context for this key or an error. What is taken comes back byte for byte, and for no other key.
//!
//! Input: eight bytes of binding, then what follows the binding in a context, without the checksum.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pairdb_fuzz::sealed;
use pairdb_fuzz::version::{Context, ContextError};

fn check(bytes: &[u8], binding: u64) {
    let Ok(context) = Context::decode(bytes, binding) else { return };
    assert_eq!(context.encode(binding), bytes, "canonical");
    assert_eq!(Context::decode(bytes, !binding), Err(ContextError::OtherKey));
    assert!(context.shown.len() <= Context::ACTORS_MAX && bytes.len() <= Context::LEN_MAX);
    assert!(context.written.is_none_or(|dot| context.covers(dot) && !context.shown.covers(dot)));
}

fuzz_target!(|data: &[u8]| {
    let Some((binding, rest)) = data.split_first_chunk() else { return };
    let binding = u64::from_be_bytes(*binding);
    check(rest, binding);
    check(&sealed(&[&[1], data].concat()), binding);
});
