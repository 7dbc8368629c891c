//! Certificates and keys out of PEM files. What is wrong with a file is said without anything that is in it.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::error::TlsError;

/// The longest file; a bundle of all public authorities has a quarter of it.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// A file and the setting that names it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'f> {
    pub setting: &'static str,
    pub file: &'f Path,
}

impl Named<'_> {
    pub(super) fn wrong(self, problem: impl Into<String>, way_out: &'static str) -> TlsError {
        TlsError::new(self.setting, self.file, problem, way_out)
    }

    fn read(self) -> Result<Vec<u8>, TlsError> {
        let unreadable = |error: std::io::Error| {
            let way_out = "name a file that is there and that this process may read";
            self.wrong(format!("can't be read: {error}"), way_out)
        };
        let mut bytes = Vec::new();
        File::open(self.file)
            .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
            .map_err(unreadable)?;
        match bytes.len() as u64 > FILE_BYTES_MAX {
            true => Err(self.wrong(
                "is longer than a mebibyte",
                "name a PEM file of certificates only",
            )),
            false => Ok(bytes),
        }
    }

    /// The file's certificates, at least one.
    pub(super) fn certificates(self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let way_out = "name a PEM file with -----BEGIN CERTIFICATE-----";
        let bytes = self.read()?;
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match all {
            Ok(certificates) if certificates.is_empty() => {
                Err(self.wrong("holds no certificate", way_out))
            }
            Ok(certificates) => Ok(certificates),
            Err(_) => Err(self.wrong("is broken: it is no PEM", way_out)),
        }
    }

    /// The file's private key.
    pub(super) fn key(self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let problem = "holds no private key that can be used without a passphrase";
        let way_out = "name a PEM file with -----BEGIN PRIVATE KEY-----; `openssl pkey` takes a passphrase off";
        PrivateKeyDer::from_pem_slice(&self.read()?).map_err(|_| self.wrong(problem, way_out))
    }

    /// The file's certificates as authorities.
    pub(super) fn authorities(self) -> Result<RootCertStore, TlsError> {
        let mut authorities = RootCertStore::empty();
        for certificate in self.certificates()? {
            authorities.add(certificate).map_err(|_| {
                let way_out = "name a PEM file of X.509 certificates of authorities";
                self.wrong("holds a certificate that can't be read", way_out)
            })?;
        }
        Ok(authorities)
    }
}
