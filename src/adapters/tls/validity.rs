//! When a certificate ends, read out of its DER (RFC 5280, section 4.1); nothing else of it is looked at.

/// Seconds since 1970; `None` for what can't be read.
pub(super) fn not_after(certificate: &[u8]) -> Option<i64> {
    const SEQUENCE: u8 = 0x30;
    const VERSION: u8 = 0xa0;
    let mut certificate = Der(certificate).value(SEQUENCE)?;
    let mut fields = certificate.value(SEQUENCE)?;
    if fields.0.first() == Some(&VERSION) {
        fields.next()?;
    }
    for _serial_algorithm_issuer in 0..3 {
        fields.next()?;
    }
    let mut validity = fields.value(SEQUENCE)?;
    let _not_before = validity.next()?;
    let (tag, time) = validity.next()?;
    seconds(tag, std::str::from_utf8(time).ok()?)
}

/// What is left to be read.
struct Der<'d>(&'d [u8]);

impl<'d> Der<'d> {
    /// The next element's tag and content.
    fn next(&mut self) -> Option<(u8, &'d [u8])> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (length, rest) = match *first {
            short @ 0..0x80 => (usize::from(short), rest),
            long => {
                let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
                if digits.len() > 4 {
                    return None;
                }
                let length = digits
                    .iter()
                    .fold(0, |length, digit| length << 8 | usize::from(*digit));
                (length, rest)
            }
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }

    /// The next element's content, if it is of this kind.
    fn value(&mut self, wanted: u8) -> Option<Self> {
        let (tag, content) = self.next()?;
        (tag == wanted).then_some(Self(content))
    }
}

/// YYMMDDHHMMSSZ or YYYYMMDDHHMMSSZ.
fn seconds(tag: u8, time: &str) -> Option<i64> {
    const UTC_TIME: u8 = 0x17;
    const GENERALIZED_TIME: u8 = 0x18;
    let digits = time.strip_suffix('Z')?;
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = digits.split_at_checked(2)?;
            let year: i64 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = digits.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    if rest.len() != 10 {
        return None;
    }
    let pair = |at: usize| rest.get(at..at + 2)?.parse::<i64>().ok();
    let days = days(year, pair(0)?, pair(2)?)?;
    Some(((days * 24 + pair(4)?) * 60 + pair(6)?) * 60 + pair(8)?)
}

/// Days from 1970-01-01, in years that begin in March, so that a leap day is a year's last.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Some(365 * year + leap_days + day_of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::tls::test_authority::TestAuthority;

    #[test]
    fn times_are_read_in_both_forms() {
        assert_eq!(seconds(0x17, "700101000000Z"), Some(0));
        assert_eq!(seconds(0x17, "240229235959Z"), Some(1_709_251_199));
        assert_eq!(seconds(0x17, "491231235959Z"), Some(2_524_607_999));
        assert_eq!(seconds(0x17, "991231235959Z"), Some(946_684_799));
        assert_eq!(seconds(0x18, "20500101000000Z"), Some(2_524_608_000));
        for wrong in ["", "Z", "7001010000Z", "701301000000Z", "é0101000000Z"] {
            assert_eq!(seconds(0x17, wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_certificates_end_is_found_and_nonsense_is_no_certificate() {
        let issued = TestAuthority::new("ca").issue(&["localhost"]);
        let der = issued.der();
        assert_eq!(not_after(&der), Some(TestAuthority::EXPIRES));
        for length in 0..der.len() {
            let _any_answer = not_after(&der[..length]);
        }
        assert_eq!(not_after(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(not_after(b"hello"), None);
    }
}
