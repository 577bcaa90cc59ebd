//! Clients with a certificate: connections that stand still, and providers that do.

use std::{
    fs,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use tokio::{
    runtime::Builder,
    time::{Instant, sleep},
};
use tower::ServiceExt;
use tower_oauth::{
    ClientAuth, ClientCertificate, ClientCredentials, Error, ErrorKind, FetchContext,
    MutualTlsClient, Secret, SecretSource, TokenSource, Transport,
};

use crate::{
    certificates::Authority,
    server::{Behaviour, Server},
};

const HTTP2: Behaviour = Behaviour { lifetime: 3600, http2: true };

fn grant(server: &Server, transport: Transport) -> ClientCredentials {
    let endpoint = format!("https://127.0.0.1:{}/token", server.port);
    let builder = ClientCredentials::builder(endpoint, ClientAuth::tls("orders"));
    builder.transport(transport).timeout(Duration::from_secs(2)).build().unwrap()
}

fn roots(server: &Server) -> Vec<reqwest::Certificate> {
    reqwest::Certificate::from_pem_bundle(&fs::read(&server.root).unwrap()).unwrap()
}

async fn fetch(grant: &ClientCredentials) -> Result<(), Error> {
    grant.fetch(FetchContext::first()).await.map(drop)
}

/// All attempts had the connection that stalls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f101_after_a_timeout_a_client_with_a_certificate_has_a_new_connection() {
    let server = Server::start(HTTP2).await;
    let pair = Authority::new().client("orders");
    let certificate = ClientCertificate::pem(pair.pem, pair.key_pem);
    let roots = roots(&server);
    let transport =
        Transport::mtls_with(&certificate, move |client| client.tls_certs_only(roots.clone()));
    let grant = grant(&server, transport);
    for _ in 0..3 {
        fetch(&grant).await.unwrap();
    }
    assert_eq!(server.connections(), 1);
    server.stall();
    assert_eq!(fetch(&grant).await.unwrap_err().kind(), ErrorKind::Timeout);
    fetch(&grant).await.unwrap();
    assert_eq!(server.connections(), 2);
}

/// Names were looked up on the runtime's own blocking threads, and took them all.
#[test]
fn f102_a_client_with_a_certificate_looks_names_up_on_threads_of_its_own() {
    let mut runtime = Builder::new_multi_thread();
    let runtime = runtime.worker_threads(2).enable_all().max_blocking_threads(1).build().unwrap();
    let (release, blocked) = mpsc::channel::<()>();
    drop(runtime.spawn_blocking(move || blocked.recv()));
    runtime.block_on(async {
        let server = Server::start(HTTP2).await;
        let pair = Authority::new().client("orders");
        let certificate = ClientCertificate::pem(pair.pem, pair.key_pem);
        let roots = roots(&server);
        let transport =
            Transport::mtls_with(&certificate, move |client| client.tls_certs_only(roots.clone()));
        let endpoint = format!("https://localhost:{}/token", server.port);
        let builder = ClientCredentials::builder(endpoint, ClientAuth::tls("orders"));
        fetch(&builder.transport(transport).build().unwrap()).await.unwrap();
    });
    drop(release);
}

/// With a client for each grant, there were as many connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f103_grants_with_one_certificate_share_their_connections() {
    let Some(root) = std::env::var_os("SSL_CERT_FILE") else {
        return again("f103_grants_with_one_certificate_share_their_connections");
    };
    let server = Server::start(HTTP2).await;
    fs::copy(&server.root, root).unwrap();
    let pair = Authority::new().client("orders");
    let certificate = ClientCertificate::pem(pair.pem, pair.key_pem);
    let mut grants = Vec::new();
    for _ in 0..20 {
        grants.push(grant(&server, Transport::mtls(&certificate.clone())));
        fetch(grants.last().unwrap()).await.unwrap();
    }
    assert_eq!(server.connections(), 1);
    // The transport goes with its last user, and another one takes its place.
    grants.clear();
    fetch(&grant(&server, Transport::mtls(&certificate))).await.unwrap();
    assert_eq!(server.connections(), 2);
}

/// Runs a test of this file in a process whose root certificates are its own.
fn again(test: &str) {
    let root = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("machine-roots-{}.pem", std::process::id()));
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("mutual_tls::{test}")])
        .env("SSL_CERT_FILE", &root)
        .status();
    drop(fs::remove_file(&root));
    assert!(status.unwrap().success());
}

async fn serves_with_a_provider<F>(then: impl Fn() -> F + Send + Sync + 'static)
where
    F: Future<Output = ()> + Send + 'static,
{
    let server = Server::start(HTTP2).await;
    let pair = Authority::new().client("orders");
    let pem = format!("{}{}", pair.pem, pair.key_pem);
    let readings = Arc::new(AtomicUsize::new(0));
    let counted = readings.clone();
    let certificate = ClientCertificate::pem_bundle(SecretSource::provider(move || {
        let is_first = counted.fetch_add(1, Ordering::Relaxed) == 0;
        let (pem, then) = (pem.clone(), (!is_first).then(&then));
        async move {
            if let Some(then) = then {
                then.await;
            }
            Ok(Secret::from(pem))
        }
    }));
    let roots = roots(&server);
    let client =
        MutualTlsClient::with(&certificate, move |client| client.tls_certs_only(roots.clone()));
    let call = || {
        let url = format!("https://127.0.0.1:{}/orders", server.port);
        let request = http::Request::get(url).body(reqwest::Body::default()).unwrap();
        client.clone().oneshot(request)
    };
    let began = Instant::now();
    // It is read again every 10 s.
    while readings.load(Ordering::Relaxed) < 3 {
        let asked = Instant::now();
        assert_eq!(call().await.unwrap().status(), 200);
        assert!(asked.elapsed() < Duration::from_secs(3), "it waited for the provider");
        assert!(began.elapsed() < Duration::from_secs(30), "it is not read again");
        sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(call().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f100_a_certificates_provider_that_panics_or_hangs_fails_no_api_request() {
    tokio::join!(
        serves_with_a_provider(|| async { panic!("the provider") }),
        serves_with_a_provider(pending),
    );
}
