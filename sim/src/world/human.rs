//! Durations as people write them: "1500us", "20ms", "3s", "1h 30m", "-1h". For serde's `with`, one module for each
//! unit that a field counts in.

use std::fmt::Display;

/// Nanoseconds of each unit, the largest first.
const UNITS: [(&str, i128); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Reads a duration, in nanoseconds.
///
/// # Errors
/// Says what is wrong and what would be right.
pub fn parse(text: &str) -> Result<i128, String> {
    let wrong = || format!("'{text}' is not a duration, such as 500ms or 1m 30s");
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    let mut sum: i128 = 0;
    let mut rest = digits.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let count: u64 = rest[..end].parse().map_err(|_| wrong())?;
        rest = &rest[end..];
        let end = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let unit = UNITS.iter().find(|(name, _)| *name == &rest[..end]);
        let (_, nanos) = unit.ok_or_else(wrong)?;
        sum += i128::from(count) * nanos;
        rest = rest[end..].trim_start();
    }
    Ok(sign * sum)
}

/// Writes a duration: one number and the largest unit that it is a whole number of.
#[must_use]
pub fn text(nanos: i128) -> String {
    let unit = UNITS.iter().find(|(_, unit)| nanos % unit == 0);
    match unit {
        _ if nanos == 0 => "0s".to_owned(),
        Some((name, unit)) => format!("{}{name}", nanos / unit),
        None => format!("{nanos}ns"),
    }
}

/// Reads `text` as a whole number of `unit` nanoseconds.
fn whole<T: TryFrom<i128>>(text: &str, unit: i128, name: &str) -> Result<T, String> {
    let nanos = parse(text)?;
    if nanos % unit != 0 {
        return Err(format!("'{text}' is finer than {name}"));
    }
    T::try_from(nanos / unit).map_err(|_| format!("'{text}' is out of range"))
}

fn custom<E: serde::de::Error>(problem: impl Display) -> E {
    E::custom(problem)
}

macro_rules! units {
    ($($module:ident $number:ty, $unit:literal, $name:literal;)*) => {
        $(
            /// A field that counts in this unit.
            pub mod $module {
                use serde::{Deserialize, Deserializer, Serializer};

                /// Writes it as text.
                pub fn serialize<S: Serializer>(value: &$number, to: S) -> Result<S::Ok, S::Error> {
                    to.serialize_str(&super::text(i128::from(*value) * $unit))
                }

                /// Reads the text.
                pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<$number, D::Error> {
                    let text = String::deserialize(from)?;
                    super::whole(&text, $unit, $name).map_err(super::custom)
                }
            }
        )*
    };
}

units! {
    ms u64, 1_000_000, "a millisecond";
    us u64, 1_000, "a microsecond";
    signed_ms i64, 1_000_000, "a millisecond";
}

/// A field in milliseconds that may be absent.
pub mod maybe_ms {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes it as text.
    pub fn serialize<S: Serializer>(value: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::ms::serialize(value, to),
            None => to.serialize_none(),
        }
    }

    /// Reads the text.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let value = text.map(|text| super::whole(&text, 1_000_000, "a millisecond"));
        value.transpose().map_err(super::custom)
    }
}

/// A field in microseconds that may be absent.
pub mod maybe_us {
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes it as text.
    pub fn serialize<S: Serializer>(value: &Option<u64>, to: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::us::serialize(value, to),
            None => to.serialize_none(),
        }
    }

    /// Reads the text.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let value = text.map(|text| super::whole(&text, 1_000, "a microsecond"));
        value.transpose().map_err(super::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_they_are_written() {
        for (written, nanos) in [
            ("0s", 0),
            ("17us", 17_000),
            ("1500ms", 1_500_000_000),
            ("90s", 90_000_000_000),
            ("2m", 120_000_000_000),
            ("-1h", -3_600_000_000_000),
        ] {
            assert_eq!(parse(written), Ok(nanos), "{written}");
            assert_eq!(text(nanos), written);
        }
        assert_eq!(parse("1h 30m"), Ok(5_400_000_000_000));
        for wrong in ["", "5", "ms", "5 parsecs", "1s2", "1.5s"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert!(whole::<u64>("-1s", 1, "").is_err());
        assert!(whole::<u64>("5us", 1_000_000, "a millisecond").is_err());
    }
}
