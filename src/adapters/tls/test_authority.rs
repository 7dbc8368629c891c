//! An authority for tests, and certificates that it signs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{ClientTls, ClusterTlsSettings, CommandFiles, TlsSettings};

/// Signs certificates.
pub struct TestAuthority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A certificate and its key.
pub struct Issued {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Issued {
    /// As it is on the wire.
    pub fn der(&self) -> Vec<u8> {
        self.certificate.der().to_vec()
    }

    /// As it is in files.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// The key as it is in files.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }
}

impl TestAuthority {
    /// When all certificates end.
    pub const EXPIRES: i64 = 4_102_444_800; // 2100-01-01

    /// A new one.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// Its own certificate, for files.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for these hosts.
    pub fn issue(&self, hosts: &[&str]) -> Issued {
        self.issue_until(hosts, 2100)
    }

    /// A certificate that ends with a year's beginning.
    pub fn issue_until(&self, hosts: &[&str], year: i32) -> Issued {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Issued { certificate, key }
    }
}

/// Files in a directory of their own, removed at the end.
pub struct TestFiles(TempDir);

impl TestFiles {
    /// None yet.
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Where a file is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        shown(&path)
    }

    /// Writes NAME.crt and NAME.key.
    pub fn write_issued(&self, name: &str, issued: &Issued) -> (String, String) {
        (
            self.write(&format!("{name}.crt"), &issued.pem()),
            self.write(&format!("{name}.key"), &issued.key_pem()),
        )
    }

    /// The section `tls` with a certificate for this machine's own addresses; with `clients`, mutual TLS.
    pub fn listeners(
        &self,
        authority: &TestAuthority,
        clients: Option<&TestAuthority>,
    ) -> TlsSettings {
        let issued = authority.issue(&["localhost", "127.0.0.1"]);
        let (cert_file, key_file) = self.write_issued("server", &issued);
        TlsSettings {
            cert_file,
            key_file,
            client_ca_file: clients.map_or_else(String::new, |clients| {
                self.write("clients.crt", clients.pem())
            }),
            reload_interval: Duration::from_millis(20),
            handshake_timeout: Duration::from_secs(10),
            ..TlsSettings::default()
        }
    }

    /// The section `cluster_tls` with a certificate of `own`, for who trusts `peers`.
    pub fn cluster(
        &self,
        name: &str,
        own: &TestAuthority,
        peers: &TestAuthority,
    ) -> ClusterTlsSettings {
        let issued = own.issue(&["localhost", "127.0.0.1"]);
        let (cert_file, key_file) = self.write_issued(name, &issued);
        ClusterTlsSettings {
            cert_file,
            key_file,
            ca_file: self.write(&format!("{name}-ca.crt"), peers.pem()),
            server_name: String::new(),
        }
    }
}

fn shown(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A command's side: trusts `authority`, and shows what `shown` is.
pub fn client(
    files: &TestFiles,
    authority: &TestAuthority,
    shown: Option<&TestAuthority>,
) -> ClientTls {
    let ca = files.write("trusted.crt", authority.pem());
    let own = shown.map(|shown| files.write_issued("client", &shown.issue(&["client"])));
    let own = own.as_ref();
    ClientTls::of_command(CommandFiles {
        ca: Some(Path::new(&ca)),
        own: own.map(|(cert, key)| (Path::new(cert), Path::new(key))),
    })
    .unwrap()
}

/// Asks for a page as any web client would. The whole answer, or why there is none.
pub async fn get(
    tls: Option<&ClientTls>,
    address: SocketAddr,
    path: &str,
) -> std::io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    match tls {
        None => ask(TcpStream::connect(address).await?, &request).await,
        Some(tls) => {
            let tls = tls.of_anything();
            let stream = tls.open(&address.ip().to_string(), address.port()).await?;
            ask(stream, &request).await
        }
    }
}

async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
) -> std::io::Result<String> {
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}
