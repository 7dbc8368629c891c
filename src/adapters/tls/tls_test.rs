//! Listeners and those who call them, over a real loopback, with certificates made for the occasion.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use futures::StreamExt;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};

use super::test_authority::{TestAuthority, TestFiles, client, get};
use super::*;
use crate::adapters::front::Places;

/// Serves one answer on every connection that gets in.
async fn serve(settings: &TlsSettings) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let listener = Listener::new(socket, ServerTls::open(settings).unwrap());
    tokio::spawn(async move {
        let mut connections = pin!(listener.connections(Places::up_to(8), Protocol::Http2));
        while let Some(connection) = connections.next().await {
            let mut connection = connection.unwrap();
            tokio::spawn(async move {
                let mut request = [0; 4];
                connection.read_exact(&mut request).await?;
                connection.write_all(b"welcome").await?;
                connection.shutdown().await
            });
        }
    });
    address
}

async fn enters(tls: &ClientTls, address: SocketAddr) -> Result<(), String> {
    let answer = timeout(Duration::from_secs(30), get(Some(tls), address, "/")).await;
    match answer.unwrap() {
        Ok(answer) if answer == "welcome" => Ok(()),
        Ok(answer) => Err(format!("answered '{answer}'")),
        Err(error) => Err(trouble(&error).map_or_else(|| error.to_string(), |it| it.to_string())),
    }
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..1000 {
        if holds().await {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("waited in vain: {what}");
}

#[tokio::test]
async fn only_whom_the_authority_signed_gets_in() {
    let (files, servers, clients) = (
        TestFiles::new(),
        TestAuthority::new("s"),
        TestAuthority::new("c"),
    );
    let address = serve(&files.listeners(&servers, Some(&clients))).await;
    let with = |shown| client(&files, &servers, shown);
    assert_eq!(enters(&with(Some(&clients)), address).await, Ok(()));
    let none = enters(&with(None), address).await.unwrap_err();
    assert!(none.contains("asks for a certificate"), "{none}");
    let wrong = enters(&with(Some(&servers)), address).await.unwrap_err();
    assert!(wrong.contains("not signed by an authority"), "{wrong}");
    let expired = clients.issue_until(&["client"], 2001);
    let (cert, key) = files.write_issued("expired", &expired);
    let ca = files.path("trusted.crt");
    let expired = ClientTls::of_command(CommandFiles {
        ca: Some(&ca),
        own: Some((Path::new(&cert), Path::new(&key))),
    })
    .unwrap();
    let expired = enters(&expired, address).await.unwrap_err();
    assert!(expired.contains("has expired"), "{expired}");
}

#[tokio::test]
async fn a_server_is_trusted_by_its_authority_and_its_name() {
    let (files, servers, others) = (
        TestFiles::new(),
        TestAuthority::new("s"),
        TestAuthority::new("o"),
    );
    let settings = files.listeners(&servers, None);
    let address = serve(&settings).await;
    assert_eq!(
        enters(&client(&files, &servers, None), address).await,
        Ok(())
    );
    let stranger = enters(&client(&files, &others, None), address).await;
    let stranger = stranger.unwrap_err();
    assert!(
        stranger.contains("authority that is not known here"),
        "{stranger}"
    );
    files.write_issued("server", &servers.issue(&["elsewhere.example"]));
    let address = serve(&settings).await;
    let other = enters(&client(&files, &servers, None), address).await;
    let other = other.unwrap_err();
    assert!(other.contains("elsewhere.example"), "{other}");
}

#[tokio::test]
async fn changed_files_are_used_and_broken_ones_are_not() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _local = metrics::set_default_local_recorder(&recorder);
    let (files, old, new) = (
        TestFiles::new(),
        TestAuthority::new("old"),
        TestAuthority::new("new"),
    );
    let address = serve(&files.listeners(&old, None)).await;
    let trusts_old = client(&files, &old, None);
    let trusts_new = client(&files, &new, None);
    assert_eq!(enters(&trusts_old, address).await, Ok(()));
    let open_before = trusts_old.open("127.0.0.1", address.port()).await.unwrap();

    // One file after the other, so that for a moment the key belongs to another certificate.
    let issued = new.issue(&["127.0.0.1"]);
    files.write("server.crt", &issued.pem());
    eventually("the half to be refused", async || {
        metrics
            .render()
            .contains("tls_files_broken{section=\"tls\"} 1")
    })
    .await;
    assert_eq!(enters(&trusts_old, address).await, Ok(()));
    files.write("server.key", &issued.key_pem());
    eventually("the new certificate", async || {
        enters(&trusts_new, address).await.is_ok()
    })
    .await;
    assert!(enters(&trusts_old, address).await.is_err());

    // Who is in stays in.
    let mut open_before = open_before;
    open_before.write_all(b"GET /").await.unwrap();
    let mut answer = String::new();
    open_before.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "welcome");

    for broken in ["", "-----BEGIN CERTIFICATE-----\nhello", &issued.key_pem()] {
        let before = refused(&metrics.render());
        files.write("server.crt", broken);
        eventually("the refusal", async || refused(&metrics.render()) > before).await;
        assert_eq!(enters(&trusts_new, address).await, Ok(()));
    }
    std::fs::remove_file(files.path("server.key")).unwrap();
    files.write_issued("server", &old.issue(&["127.0.0.1"]));
    eventually("the old one again", async || {
        enters(&trusts_old, address).await.is_ok()
    })
    .await;
    let shown = metrics.render();
    assert!(
        shown.contains("tls_files_broken{section=\"tls\"} 0"),
        "{shown}"
    );
    let expires = format!(
        "tls_certificate_expires_timestamp_seconds{{section=\"tls\"}} {}",
        TestAuthority::EXPIRES
    );
    assert!(shown.contains(&expires), "{shown}");
}

fn refused(metrics: &str) -> u32 {
    let line = metrics.lines().find(|line| {
        line.starts_with("tls_reloads_total{") && line.contains("outcome=\"refused\"")
    });
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn an_authority_for_clients_is_exchanged_without_a_restart() {
    let (files, servers) = (TestFiles::new(), TestAuthority::new("s"));
    let (old, new) = (TestAuthority::new("old"), TestAuthority::new("new"));
    let address = serve(&files.listeners(&servers, Some(&old))).await;
    let (of_old, of_new) = (
        client(&files, &servers, Some(&old)),
        client(&files, &servers, Some(&new)),
    );
    assert!(enters(&of_new, address).await.is_err());
    files.write("clients.crt", &format!("{}{}", old.pem(), new.pem()));
    eventually("both", async || enters(&of_new, address).await.is_ok()).await;
    assert_eq!(enters(&of_old, address).await, Ok(()));
    files.write("clients.crt", new.pem());
    eventually("the new one only", async || {
        enters(&of_old, address).await.is_err()
    })
    .await;
    assert_eq!(enters(&of_new, address).await, Ok(()));
}

#[tokio::test]
async fn who_is_slow_holds_up_nobody_and_not_for_long() {
    let (files, servers) = (TestFiles::new(), TestAuthority::new("s"));
    let mut settings = files.listeners(&servers, None);
    settings.handshakes_max = 2;
    settings.handshake_timeout = Duration::from_secs(2);
    let address = serve(&settings).await;
    let tls = client(&files, &servers, None);
    let mut slow = TcpStream::connect(address).await.unwrap();
    assert_eq!(enters(&tls, address).await, Ok(()));
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(&[22, 3, 1]).await.unwrap();
    // Now as many as there may be are under way; the next one waits until one has had its time.
    assert_eq!(enters(&tls, address).await, Ok(()));
    for stream in [&mut slow, &mut half] {
        let ended = timeout(Duration::from_secs(30), stream.read(&mut [0; 64])).await;
        assert!(matches!(ended, Ok(Ok(0) | Err(_))), "{ended:?}");
    }
}

#[tokio::test]
async fn who_speaks_no_tls_is_told_so() {
    let (files, servers) = (TestFiles::new(), TestAuthority::new("s"));
    let address = serve(&files.listeners(&servers, None)).await;
    let answer = get(None, address, "/").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(
        answer.ends_with("\r\n\r\nthis port speaks TLS only: use https://\n"),
        "{answer}"
    );
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let status = tonic_health::pb::health_client::HealthClient::new(endpoint.connect_lazy())
        .check(tonic_health::pb::HealthCheckRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        trouble(&status),
        Some(Trouble::ServerSpeaksTls),
        "{status:?}"
    );
}

#[tokio::test]
async fn who_speaks_tls_to_a_server_without_it_is_told_so() {
    let (files, servers) = (TestFiles::new(), TestAuthority::new("s"));
    let tls = client(&files, &servers, None);
    for (answer, trouble) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            Trouble::ServerSpeaksNoTls,
        ),
        (b"", Trouble::BrokenOff),
    ] {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = socket.accept().await?;
            let _hello = stream.read(&mut [0; 4096]).await?;
            stream.write_all(answer).await?;
            stream.shutdown().await
        });
        let told = enters(&tls, address).await;
        assert_eq!(told, Err(trouble.to_string()));
    }
}

#[tokio::test]
async fn errors_name_the_setting_the_file_the_cause_and_the_way_out() {
    let (files, authority) = (TestFiles::new(), TestAuthority::new("s"));
    let good = files.listeners(&authority, Some(&authority));
    let issued = authority.issue(&["other"]);
    let key = issued.key_pem();
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let write = |name: &str, text: &str| files.write(name, text);
    type Change = fn(&mut TlsSettings, String);
    let cert: Change = |settings, file| settings.cert_file = file;
    let key_file: Change = |settings, file| settings.key_file = file;
    let clients: Change = |settings, file| settings.client_ca_file = file;
    let nowhere = files.path("nowhere").to_str().unwrap().to_owned();
    for (change, file, setting, problem) in [
        (cert, nowhere, "tls.cert_file", "can't be read: "),
        (
            cert,
            write("a", "hello"),
            "tls.cert_file",
            "holds no certificate",
        ),
        (
            cert,
            write("b", "-----BEGIN CERTIFICATE-----\n!"),
            "tls.cert_file",
            "is broken",
        ),
        (
            cert,
            write(
                "c",
                "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n",
            ),
            "tls.",
            "can't be used",
        ),
        (
            cert,
            write("d", &"x".repeat(2 << 20)),
            "tls.cert_file",
            "is longer than",
        ),
        (
            key_file,
            write("e", "hello"),
            "tls.key_file",
            "holds no private key",
        ),
        (
            key_file,
            write("f", &encrypted),
            "tls.key_file",
            "without a passphrase",
        ),
        (
            key_file,
            write("g", &key),
            "tls.key_file",
            "is not the key of ",
        ),
        (
            clients,
            write("h", &key),
            "tls.client_ca_file",
            "holds no certificate",
        ),
    ] {
        let mut settings = good.clone();
        change(&mut settings, file.clone());
        let error = ServerTls::open(&settings).err().unwrap();
        let text = error.to_string();
        assert!(error.setting.starts_with(setting), "{text}");
        assert_eq!(error.file, PathBuf::from(&file), "{text}");
        assert!(text.contains(problem), "{text}");
        assert!(text.contains(&file) && !error.way_out.is_empty(), "{text}");
        let secret = key.lines().nth(1).unwrap();
        assert!(!format!("{error:?}").contains(secret), "{text}");
    }
    assert!(ServerTls::open(&TlsSettings::default()).unwrap().is_none());
}

#[test]
fn other_troubles_are_not_about_tls() {
    let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
    assert_eq!(trouble(&refused), None);
    let eof = io::Error::new(io::ErrorKind::UnexpectedEof, "eof");
    assert_eq!(trouble(&eof), None);
}
