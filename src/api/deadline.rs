//! How long a client waits, as it says in `grpc-timeout`.

use std::time::Duration;

use http::HeaderName;
use tonic::metadata::MetadataMap;

/// The answer's way back takes time too: an answer that says what went wrong is worth more than none.
const WAY_BACK_MAX: Duration = Duration::from_millis(20);

/// The header.
pub(super) const HEADER: HeaderName = HeaderName::from_static("grpc-timeout");

/// Longer than anything takes here.
pub(super) const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// How long the client itself waits, or `None` when it did not say, or said something unreadable.
pub(super) fn timeout(headers: &http::HeaderMap) -> Option<Duration> {
    parse(headers.get(HEADER)?.to_str().ok()?)
}

/// How long the coordinator may take, or `None` when the client did not say, or said something unreadable.
pub(super) fn patience(metadata: &MetadataMap) -> Option<Duration> {
    let timeout = parse(metadata.get("grpc-timeout")?.to_str().ok()?)?;
    Some(timeout - WAY_BACK_MAX.min(timeout / 10))
}

/// At most eight digits and a unit.
fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read() {
        let cases = [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("3S", Duration::from_secs(3)),
            ("4m", Duration::from_millis(4)),
            ("5u", Duration::from_micros(5)),
            ("99999999n", Duration::from_nanos(99_999_999)),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
            ("0S", Duration::ZERO),
        ];
        for (text, duration) in cases {
            assert_eq!(parse(text), Some(duration), "{text}");
        }
    }

    #[test]
    fn nonsense_is_no_timeout() {
        for text in [
            "",
            "S",
            "1",
            "1s",
            "-1S",
            "+1S",
            "1.5S",
            "999999999S",
            "1ж",
            "жS",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn time_is_left_for_the_way_back() {
        let patience = |text: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().unwrap());
            patience(&metadata)
        };
        assert_eq!(patience("100m"), Some(Duration::from_millis(90)));
        assert_eq!(patience("5S"), Some(Duration::from_millis(4980)));
        assert_eq!(patience("soon"), None);
        assert_eq!(super::patience(&MetadataMap::new()), None);
    }
}
