//! What TLS has to do with a connection that could not be made or broke, in words.
//!
//! In TLS 1.3 a client is done before the server has looked at its certificate, so a refusal arrives with the first
//! answer, in the place of one. By then the HTTP/2 library has made text of it; so text is looked at too.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};

use rustls::{AlertDescription, CertificateError};

use super::handshake::SPEAKS_TLS;

/// What is wrong between a client and a server. Its text goes on after the server's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// The server speaks TLS, the client does not.
    ServerSpeaksTls,
    /// The client speaks TLS, the server does not.
    ServerSpeaksNoTls,
    /// The server ended the handshake without a word, as one that speaks no TLS may.
    BrokenOff,
    /// The client does not trust the server, for this reason.
    NotTrusted(String),
    /// The server does not let the client in, for this reason.
    NotLetIn(String),
}

impl Error for Trouble {}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServerSpeaksTls => f.write_str("speaks TLS only"),
            Self::ServerSpeaksNoTls => f.write_str("does not speak TLS"),
            Self::BrokenOff => f.write_str("broke off the handshake: does it speak TLS?"),
            Self::NotTrusted(why) => write!(f, "can't be trusted: {why}"),
            Self::NotLetIn(why) => write!(f, "did not let this client in: {why}"),
        }
    }
}

/// Finds it behind an error; `None` where TLS has nothing to do with it.
#[must_use]
pub fn trouble(error: &(dyn Error + 'static)) -> Option<Trouble> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(trouble) = error.downcast_ref::<Trouble>() {
            return Some(trouble.clone());
        }
        let found = error.downcast_ref::<io::Error>().and_then(of_io);
        if let Some(trouble) = found.or_else(|| of_text(&error.to_string())) {
            return Some(trouble);
        }
        cause = error.source();
    }
    None
}

/// What a handshake failed with that the server has ended without a word.
#[derive(Debug, thiserror::Error)]
#[error("the handshake was broken off")]
struct BrokenOff;

/// What is said of a handshake that failed so.
pub(super) fn of_handshake(error: io::Error) -> io::Error {
    let broken_off = matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
    );
    match broken_off {
        true => io::Error::new(error.kind(), BrokenOff),
        false => error,
    }
}

fn of_io(error: &io::Error) -> Option<Trouble> {
    let inner = error.get_ref()?;
    if let Some(error) = inner.downcast_ref::<rustls::Error>() {
        return of_rustls(error);
    }
    inner.is::<BrokenOff>().then_some(Trouble::BrokenOff)
}

fn of_rustls(error: &rustls::Error) -> Option<Trouble> {
    Some(match error {
        rustls::Error::InvalidMessage(_) => Trouble::ServerSpeaksNoTls,
        rustls::Error::InvalidCertificate(why) => Trouble::NotTrusted(match why {
            CertificateError::UnknownIssuer => {
                "its certificate was signed by an authority that is not known here".into()
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet".into()
            }
            why => format!("its certificate is not right: {why}"),
        }),
        rustls::Error::AlertReceived(alert) => Trouble::NotLetIn(of_alert(*alert)),
        _ => return None,
    })
}

const ALERT: &str = "received fatal alert: ";

fn of_text(text: &str) -> Option<Trouble> {
    if text.contains(SPEAKS_TLS) {
        return Some(Trouble::ServerSpeaksTls);
    }
    let (_, alert) = text.split_once(ALERT)?;
    let name: String = alert
        .chars()
        .take_while(|letter| letter.is_alphanumeric())
        .collect();
    // Those that handshakes end with. Others may come later, when something was done already.
    let known = [
        AlertDescription::CertificateRequired,
        AlertDescription::NoCertificate,
        AlertDescription::BadCertificate,
        AlertDescription::UnsupportedCertificate,
        AlertDescription::CertificateRevoked,
        AlertDescription::CertificateExpired,
        AlertDescription::CertificateUnknown,
        AlertDescription::UnknownCA,
        AlertDescription::AccessDenied,
        AlertDescription::HandshakeFailure,
        AlertDescription::ProtocolVersion,
        AlertDescription::NoApplicationProtocol,
    ];
    let alert = known
        .into_iter()
        .find(|alert| format!("{alert:?}") == name)?;
    Some(Trouble::NotLetIn(of_alert(alert)))
}

fn of_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
            "it asks for a certificate".into()
        }
        AlertDescription::CertificateExpired => "the certificate shown to it has expired".into(),
        AlertDescription::NoApplicationProtocol => {
            "it speaks TLS, but not this protocol; is it another port?".into()
        }
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::DecryptError => {
            "the certificate shown to it was not signed by an authority that it knows".into()
        }
        alert => format!("{alert:?}"),
    }
}
