//! Numbers that say how much a test does, from the environment.

use std::str::FromStr;

/// The number in the variable `name`, or `default` without it.
///
/// # Panics
/// If what is there is no such number.
pub fn number<N: FromStr>(name: &str, default: N) -> N {
    match std::env::var(name) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{name}: '{text}' is not a number")),
        Err(_) => default,
    }
}
