//! TLS as commands see it: the flags, and what its failures mean to whoever ran one.

use std::path::PathBuf;

use clap::Args;

use super::exit::{Exit, Failure};
use crate::adapters::tls::{ClientTls, CommandFiles, TlsError, Trouble};

/// How a server is told from another, and what it is shown.
#[derive(Args, Clone, Debug, Default)]
pub struct TlsArgs {
    /// The PEM file of the authority that signed the server's certificate [default: the machine's own]
    #[arg(long, env = "PAIRDB_TLS_CA", value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// The PEM file of a certificate, for servers that ask for one
    #[arg(long, env = "PAIRDB_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// The PEM file of that certificate's key
    #[arg(long, env = "PAIRDB_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
}

impl TlsArgs {
    /// An authority that is known otherwise than by a flag; `None`: those of the machine.
    pub fn of_authority(file: Option<PathBuf>) -> Self {
        Self {
            tls_ca: file,
            ..Self::default()
        }
    }

    /// A flag that was given and makes no sense without TLS.
    pub fn given(&self) -> Option<&'static str> {
        [
            ("--tls-ca", &self.tls_ca),
            ("--tls-cert", &self.tls_cert),
            ("--tls-key", &self.tls_key),
        ]
        .into_iter()
        .find_map(|(flag, file)| file.as_ref().map(|_| flag))
    }

    /// Reads the files.
    pub fn open(&self) -> Result<ClientTls, Failure> {
        let own = match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Some((cert.as_path(), key.as_path())),
            (None, None) => None,
            (Some(_), None) => return Err(alone("--tls-cert", "--tls-key")),
            (None, Some(_)) => return Err(alone("--tls-key", "--tls-cert")),
        };
        let ca = self.tls_ca.as_deref();
        Ok(ClientTls::of_command(CommandFiles { ca, own })?)
    }
}

fn alone(given: &str, missing: &str) -> Failure {
    Failure::usage(format!("{given} is of no use without {missing}"))
        .hint(format!("name the other file with {missing}"))
}

impl From<TlsError> for Failure {
    fn from(error: TlsError) -> Self {
        Self::new(Exit::Usage, "TLS", error.to_string()).hint(error.way_out)
    }
}

/// What it means that `server` and this command did not come together.
pub fn failure(server: &str, trouble: &Trouble) -> Failure {
    let (exit, way_out) = match trouble {
        Trouble::ServerSpeaksTls => (
            Exit::Unavailable,
            "write https://HOST:PORT, and name the server's authority with --tls-ca",
        ),
        Trouble::ServerSpeaksNoTls | Trouble::BrokenOff => (
            Exit::Unavailable,
            "write http://HOST:PORT if it is meant to be without TLS",
        ),
        Trouble::NotTrusted(_) => (
            Exit::Unavailable,
            "name the server as its certificate does, and its authority with --tls-ca",
        ),
        Trouble::NotLetIn(_) => (
            Exit::Refused,
            "show a certificate that the server's authority has signed, with --tls-cert and --tls-key",
        ),
    };
    Failure::new(exit, "TLS", format!("{server} {trouble}")).hint(way_out)
}
