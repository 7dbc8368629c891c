//! When a certificate ends. Whether it is good is rustls' to judge, so one that rustls takes is read here, too,
//! whatever RFC 5280 would say of its serial number.

use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::Decode;

/// Seconds since 1970; `None` for what can't be read.
pub(super) fn not_after(certificate: &[u8]) -> Option<i64> {
    let certificate = CertificateInner::<Raw>::from_der(certificate).ok()?;
    let end = certificate.tbs_certificate().validity().not_after;
    i64::try_from(end.to_unix_duration().as_secs()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::tls::test_authority::TestAuthority;

    #[test]
    fn a_certificates_end_is_found_and_nonsense_is_no_certificate() {
        let issued = TestAuthority::new("ca").issue(&["localhost"]);
        let der = issued.der();
        assert_eq!(not_after(&der), Some(TestAuthority::EXPIRES));
        for length in 0..der.len() {
            assert_eq!(not_after(&der[..length]), None);
        }
        assert_eq!(not_after(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(not_after(b"hello"), None);
    }
}
