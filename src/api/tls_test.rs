//! Both listeners of a coordinator with TLS: who gets in, and what the others are told.

use tonic::Code;
use tonic::transport::Endpoint;

use super::test_cluster::TestCluster;
use crate::adapters::tls::test_authority::{TestAuthority, TestFiles, client, get};
use crate::adapters::tls::{ClientTls, Trouble, trouble};
use crate::proto::v1::ListStorageNodesRequest;
use crate::proto::v1::coordinator_service_client::CoordinatorServiceClient;

/// Asks over gRPC for something; the trouble if that is not answered.
async fn ask(cluster: &TestCluster, tls: Option<&ClientTls>) -> Result<(), Trouble> {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let endpoint = Endpoint::from_shared(format!("{scheme}://{}", cluster.grpc)).unwrap();
    let connected = match tls {
        Some(tls) => {
            tls.connect(&endpoint, "127.0.0.1", cluster.grpc.port())
                .await
        }
        None => endpoint.connect().await.map_err(Into::into),
    };
    let channel = connected.map_err(|error| {
        let found = trouble(error.as_ref());
        found.unwrap_or_else(|| panic!("not about TLS: {error:?}"))
    })?;
    let answer = CoordinatorServiceClient::new(channel)
        .list_storage_nodes(ListStorageNodesRequest::default())
        .await;
    match answer {
        Ok(_) => Ok(()),
        Err(status) => {
            assert_ne!(status.code(), Code::Ok);
            let found = trouble(&status);
            Err(found.unwrap_or_else(|| panic!("not about TLS: {status:?}")))
        }
    }
}

#[tokio::test]
async fn with_an_authority_for_clients_only_its_clients_get_in() {
    let (files, servers) = (TestFiles::new(), TestAuthority::new("servers"));
    let clients = TestAuthority::new("clients");
    let cluster = TestCluster::start_secure(&files.listeners(&servers, Some(&clients))).await;
    let right = client(&files, &servers, Some(&clients));
    let wrong = client(&files, &servers, Some(&servers));
    let none = client(&files, &servers, None);

    assert_eq!(ask(&cluster, Some(&right)).await, Ok(()));
    let not_let_in = |told: &Result<(), Trouble>| matches!(told, Err(Trouble::NotLetIn(_)));
    for tls in [&wrong, &none] {
        let told = ask(&cluster, Some(tls)).await;
        assert!(not_let_in(&told), "{told:?}");
    }
    assert_eq!(ask(&cluster, None).await, Err(Trouble::ServerSpeaksTls));

    let answer = get(Some(&right), cluster.http, "/health/live").await;
    assert!(answer.unwrap().starts_with("HTTP/1.1 200 "));
    for tls in [&wrong, &none] {
        let error = get(Some(tls), cluster.http, "/health/live").await;
        let told = error.map(drop).map_err(|error| trouble(&error).unwrap());
        assert!(not_let_in(&told), "{told:?}");
    }
    let answer = get(None, cluster.http, "/health/live").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("use https://"), "{answer}");
}

#[tokio::test]
async fn without_one_clients_need_no_certificate() {
    let (files, servers) = (TestFiles::new(), TestAuthority::new("servers"));
    let cluster = TestCluster::start_secure(&files.listeners(&servers, None)).await;
    let tls = client(&files, &servers, None);
    assert_eq!(ask(&cluster, Some(&tls)).await, Ok(()));
    let endpoint = Endpoint::from_shared(format!("https://{}", cluster.grpc)).unwrap();
    let lazily = tls.connect_lazily(&endpoint, "127.0.0.1", cluster.grpc.port());
    let answer = CoordinatorServiceClient::new(lazily)
        .list_storage_nodes(ListStorageNodesRequest::default())
        .await;
    assert!(answer.is_ok(), "{answer:?}");
    let answer = get(Some(&tls), cluster.http, "/health/live").await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    // Who stops does not wait for handshakes.
    cluster.stop().await;
}
