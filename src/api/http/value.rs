//! Values are bytes, JSON has none. What a client sends becomes bytes so, and what it reads comes back so:
//!
//! | sent as | stored |
//! |---|---|
//! | `"value": "text"` | the bytes of the text |
//! | `"value": {"any": "other JSON"}` | the JSON as it was written |
//! | `"value_base64": "AAEC"` | what it encodes |
//!
//! | read with `value_as` | bytes that are JSON | other UTF-8 | anything else |
//! |---|---|---|---|
//! | `text` (default) | a string | a string | base64 |
//! | `json` | that JSON | a string | base64 |
//! | `base64` | base64 | base64 | base64 |
//!
//! Bytes don't say whether they were sent as a string or as other JSON. So a string always comes back as that string,
//! which is what clients of the older gateway rely on, and who stores other JSON asks for it. `value_encoding` says
//! which one it is.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD as ENCODER};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use utoipa::ToSchema;

use super::failure::{Failure, wrong};

/// How a client wants to read a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ValueAs {
    /// A string where it is UTF-8.
    #[default]
    Text,
    /// The JSON where it is JSON.
    Json,
    /// Base64.
    Base64,
}

/// What `value` is in an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ValueEncoding {
    /// The value's text.
    Text,
    /// The value's JSON.
    Json,
    /// A string of base64.
    Base64,
}

/// The bytes that `value` or `value_base64` stands for.
pub(super) fn stored(value: Option<&RawValue>, base64: Option<&str>) -> Result<Bytes, Failure> {
    match (value, base64) {
        (Some(value), None) if value.get().starts_with('"') => {
            serde_json::from_str::<String>(value.get())
                .map(Bytes::from)
                .map_err(|_| wrong("value", "is no text: half of a surrogate pair is missing"))
        }
        (Some(value), None) => Ok(Bytes::copy_from_slice(value.get().as_bytes())),
        (None, Some(text)) => decoded("value_base64", text),
        (None, None) => Err(wrong("value", "is missing; give any JSON, or value_base64")),
        (Some(_), Some(_)) => Err(wrong(
            "value_base64",
            "is given beside value; leave one of them out",
        )),
    }
}

/// A value as the client wants to read it.
pub(super) fn shown(bytes: &[u8], wanted: ValueAs) -> (Box<RawValue>, ValueEncoding) {
    if wanted == ValueAs::Json
        && let Ok(json) = serde_json::from_slice::<Box<RawValue>>(bytes)
    {
        return (json, ValueEncoding::Json);
    }
    if wanted != ValueAs::Base64
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        return (string(text), ValueEncoding::Text);
    }
    (string(&encoded(bytes)), ValueEncoding::Base64)
}

fn string(text: &str) -> Box<RawValue> {
    to_raw_value(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Base64.
pub(super) fn encoded(bytes: &[u8]) -> String {
    ENCODER.encode(bytes)
}

/// Base64 from a query, where a `+` that was not escaped has become a space.
pub(super) fn from_query(text: &str) -> String {
    text.replace(' ', "+")
}

/// Reads base64 of either alphabet, padded or not.
pub(super) fn decoded(field: &str, text: &str) -> Result<Bytes, Failure> {
    let lenient =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) {
        URL_SAFE
    } else {
        STANDARD
    };
    GeneralPurpose::new(&alphabet, lenient)
        .decode(text)
        .map(Bytes::from)
        .map_err(|_| wrong(field, "is not base64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(json: &str) -> Result<Bytes, Failure> {
        let value: Box<RawValue> = serde_json::from_str(json).unwrap();
        stored(Some(&value), None)
    }

    #[test]
    fn a_string_is_its_bytes_and_other_json_is_what_was_written() {
        for (json, bytes) in [
            (r#""hello""#, "hello"),
            (r#""""#, ""),
            (r#""\u00e9\"""#, "é\""),
            (r#""{\"a\":1}""#, r#"{"a":1}"#),
            (r#"{"a": 1.0}"#, r#"{"a": 1.0}"#),
            ("12345678901234567890123", "12345678901234567890123"),
            ("null", "null"),
        ] {
            assert_eq!(store(json).unwrap(), bytes.as_bytes(), "{json}");
        }
        assert!(store(r#""\ud800""#).is_err());
        assert_eq!(stored(None, Some("AP8=")).unwrap(), [0u8, 0xff].as_slice());
        assert!(stored(None, None).is_err());
        assert!(stored(Some(RawValue::NULL), Some("")).is_err());
    }

    #[test]
    fn a_value_is_shown_as_it_is_asked_for() {
        let shown = |bytes: &[u8], wanted| {
            let (value, encoding) = shown(bytes, wanted);
            (value.get().to_owned(), encoding)
        };
        use ValueEncoding::{Base64, Json, Text};
        assert_eq!(
            shown(b"{\"a\": 1}", ValueAs::Text),
            (r#""{\"a\": 1}""#.into(), Text)
        );
        assert_eq!(
            shown(b"{\"a\": 1}", ValueAs::Json),
            (r#"{"a": 1}"#.into(), Json)
        );
        assert_eq!(shown(b"hello", ValueAs::Json), (r#""hello""#.into(), Text));
        assert_eq!(shown(b"", ValueAs::Json), (r#""""#.into(), Text));
        for wanted in [ValueAs::Text, ValueAs::Json, ValueAs::Base64] {
            assert_eq!(shown(&[0, 0xff], wanted), (r#""AP8=""#.into(), Base64));
        }
    }

    #[test]
    fn base64_of_any_kind_is_read() {
        for text in ["+/8=", "+/8", "-_8=", "-_8", &from_query(" /8=")] {
            assert_eq!(
                decoded("context", text).unwrap(),
                [0xfb, 0xff].as_slice(),
                "{text}"
            );
        }
        for text in ["%", " /8=", "+/ 8=", "+/8=\n", "+_8="] {
            assert!(decoded("context", text).is_err(), "{text:?}");
        }
    }
}
