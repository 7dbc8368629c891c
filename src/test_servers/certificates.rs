//! A certificate for 127.0.0.1 and localhost, and the authority that signed it, made for one run.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::guard::run;

/// Files in a server's folder.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority's certificate.
    pub authority: PathBuf,
    /// The server's certificate.
    pub certificate: PathBuf,
    /// The server's key.
    pub key: PathBuf,
}

impl Certificates {
    /// Makes them in `directory`.
    pub fn make(directory: &Path) -> Self {
        let file = |name: &str| directory.join(name);
        let openssl = |arguments: &[&str]| {
            let mut command = Command::new("openssl");
            run(command.current_dir(directory).args(arguments));
        };
        fs::write(file("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").expect("a file");
        let new_key = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ];
        let authority = [
            "req",
            "-x509",
            "-subj",
            "/CN=test authority",
            "-days",
            "2",
            "-keyout",
            "authority.key",
        ];
        openssl(&[&authority[..], &["-out", "authority.pem"], &new_key].concat());
        let request = [
            "req",
            "-subj",
            "/CN=localhost",
            "-keyout",
            "server.key",
            "-out",
            "server.csr",
        ];
        openssl(&[&request[..], &new_key].concat());
        let sign = [
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-CA",
            "authority.pem",
            "-CAkey",
            "authority.key",
        ];
        let with = [
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "names",
            "-out",
            "server.pem",
        ];
        openssl(&[&sign[..], &with].concat());
        Self {
            authority: file("authority.pem"),
            certificate: file("server.pem"),
            key: file("server.key"),
        }
    }
}
