//! Commands against servers with TLS, and the metrics listener.

use std::net::SocketAddr;

use clap::Parser;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;
use tonic::transport::Server;

use super::exit::{Exit, Failure};
use super::serve::serve_metrics;
use super::{Cli, Command};
use crate::adapters::front::{Budget, Places};
use crate::adapters::tls::test_authority::{TestAuthority, TestFiles, client, get};
use crate::adapters::tls::{Listener, Protocol, ServerTls, TlsSettings, trouble};

/// Something that serves gRPC.
async fn serve(tls: &TlsSettings) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let listener = Listener::new(socket, ServerTls::open(tls).unwrap());
    let (_reporter, health) = tonic_health::server::health_reporter();
    let connections = listener.connections(Places::up_to(8), Protocol::Http2);
    tokio::spawn(
        Server::builder()
            .add_service(health)
            .serve_with_incoming(connections),
    );
    address
}

async fn health(arguments: &[&str]) -> Result<(), Failure> {
    let all = ["pairdb", "health", "--json", "--server"].iter();
    match Cli::try_parse_from(all.chain(arguments)).unwrap().command {
        Command::Health(health) => health.run().await,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn commands_show_certificates_and_say_what_is_wrong() {
    let (files, servers) = (TestFiles::new(), TestAuthority::new("servers"));
    let clients = TestAuthority::new("clients");
    let address = serve(&files.listeners(&servers, Some(&clients))).await;
    let (https, http, bare) = (
        format!("https://{address}"),
        format!("http://{address}"),
        address.to_string(),
    );
    let ca = files.write("ca.crt", servers.pem());
    let (cert, key) = files.write_issued("mine", &clients.issue(&["me"]));
    let (wrong_cert, wrong_key) = files.write_issued("wrong", &servers.issue(&["me"]));
    let nowhere = files.path("nowhere").to_str().unwrap().to_owned();
    for server in [&https, &bare] {
        let shown = ["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key];
        let arguments = [&[server.as_str()], &shown[..]].concat();
        assert_eq!(health(&arguments).await, Ok(()));
    }
    let (https, http) = (https.as_str(), http.as_str());
    for (arguments, exit, told) in [
        (vec![http], Exit::Unavailable, "speaks TLS only"),
        (
            vec![https, "--tls-ca", &ca],
            Exit::Refused,
            "asks for a certificate",
        ),
        (
            vec![
                https,
                "--tls-ca",
                &ca,
                "--tls-cert",
                &wrong_cert,
                "--tls-key",
                &wrong_key,
            ],
            Exit::Refused,
            "not signed by an authority",
        ),
        (
            vec![https, "--tls-ca", &files.write("other.crt", clients.pem())],
            Exit::Unavailable,
            "can't be trusted",
        ),
        (vec![https, "--tls-ca", &nowhere], Exit::Usage, "--tls-ca: "),
        (
            vec![https, "--tls-ca", &ca, "--tls-cert", &cert],
            Exit::Usage,
            "without --tls-key",
        ),
        (
            vec![
                https,
                "--tls-ca",
                &ca,
                "--tls-cert",
                &cert,
                "--tls-key",
                &wrong_key,
            ],
            Exit::Usage,
            "is not the key of",
        ),
        (
            vec![http, "--tls-ca", &ca],
            Exit::Usage,
            "--tls-ca is of no use without TLS",
        ),
    ] {
        let failure = health(&arguments).await.unwrap_err();
        assert_eq!(failure.exit, exit, "{failure:?}");
        assert!(failure.message.contains(told), "{failure:?}");
        assert!(failure.hint.is_some(), "{failure:?}");
    }
    let plain = serve(&TlsSettings::default()).await;
    let failure = health(&[&format!("https://{plain}"), "--tls-ca", &ca]).await;
    let failure = failure.unwrap_err();
    assert!(failure.message.contains("speak TLS"), "{failure:?}");
}

#[tokio::test]
async fn metrics_are_for_those_who_are_let_in() {
    let (files, servers) = (TestFiles::new(), TestAuthority::new("servers"));
    let clients = TestAuthority::new("clients");
    let tls = files.listeners(&servers, Some(&clients));
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let collected = PrometheusBuilder::new().build_recorder().handle();
    let listener = Listener::new(socket, ServerTls::open(&tls).unwrap());
    tokio::spawn(serve_metrics(
        listener,
        collected,
        Budget::unlimited(),
        || (),
        std::future::pending(),
    ));
    let right = client(&files, &servers, Some(&clients));
    let answer = get(Some(&right), address, "/metrics").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    for shown in [None, Some(&servers)] {
        let error = get(Some(&client(&files, &servers, shown)), address, "/metrics").await;
        assert!(trouble(&error.unwrap_err()).is_some());
    }
    let answer = get(None, address, "/metrics").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
}
