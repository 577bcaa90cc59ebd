//! The default client, over real sockets.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tokio_rustls::rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tower_oauth::{ClientAuth, ClientCredentials, Error, ErrorKind, TokenSet, Transport};

use crate::fake::{GRANTED, fetch};

/// A server on loopback: each connection is served by `serve`, and counted.
fn listen(serve: impl Fn(TcpStream) + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = count.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counter.fetch_add(1, Ordering::SeqCst);
            serve(stream);
        }
    });
    (address, count)
}

/// Reads one request to its end; `None` if it broke off.
fn read_request(stream: &mut impl Read) -> Option<String> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer).ok().filter(|read| *read > 0)?;
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, length)| length.parse().unwrap());
        if body.len() >= length {
            return Some(text);
        }
    }
}

fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

/// Answers every request with these bytes, then closes.
fn answering(bytes: Vec<u8>) -> (SocketAddr, Arc<AtomicUsize>) {
    listen(move |mut stream| {
        if read_request(&mut stream).is_some() {
            let _ = stream.write_all(&bytes);
        }
    })
}

async fn ask(url: String, transport: Option<Transport>) -> Result<TokenSet, Error> {
    let mut builder = ClientCredentials::builder(url, ClientAuth::post("orders", "hunter2"));
    if let Some(transport) = transport {
        builder = builder.transport(transport);
    }
    fetch(&builder.build().unwrap()).await
}

async fn ask_plain(address: SocketAddr) -> Result<TokenSet, Error> {
    ask(format!("http://{address}/token"), None).await
}

#[tokio::test]
async fn the_default_client_gets_a_token() {
    let (address, _) = answering(response("200 OK", "", GRANTED.as_bytes()));
    assert_eq!(ask_plain(address).await.unwrap().access_token().expose(), "t");
}

#[tokio::test]
async fn f15_a_redirect_is_not_followed_and_the_other_server_sees_nothing() {
    for status in
        ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]
    {
        let (elsewhere, visits) = answering(response("200 OK", "", GRANTED.as_bytes()));
        let location = format!("location: http://{elsewhere}/token\r\n");
        let (address, requests) = answering(response(status, &location, b""));
        let error = ask_plain(address).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MalformedResponse);
        assert!(error.to_string().contains(&status[..3]), "{error}");
        assert_eq!(requests.load(Ordering::SeqCst), 1);
        assert_eq!(visits.load(Ordering::SeqCst), 0, "{status}");
    }
}

#[tokio::test]
async fn tls_02_a_redirect_on_the_same_server_is_not_followed_either() {
    let (address, requests) = answering(response("307 Temporary", "location: /other\r\n", b""));
    let error = ask_plain(address).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MalformedResponse);
    assert_eq!(requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn tls_03_a_compressed_bomb_is_counted_after_decompression() {
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..64 {
        bomb.write_all(&vec![b' '; 1 << 20]).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 100_000);
    let (address, _) = answering(response("200 OK", "content-encoding: gzip\r\n", &bomb));
    let error = ask_plain(address).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MalformedResponse);
    assert!(error.to_string().contains("larger than 1048576 bytes"), "{error}");
}

#[tokio::test]
async fn f04_a_connection_that_breaks_is_transient() {
    let whole = response("200 OK", "", GRANTED.as_bytes());
    for sent in [0, 1, whole.len() - 1] {
        let (address, _) = answering(whole[..sent].to_vec());
        let error = ask_plain(address).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transport, "after {sent} bytes: {error:?}");
        assert!(error.is_retryable());
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(ask_plain(nobody).await.unwrap_err().kind(), ErrorKind::Transport);
}

/// A certification authority, and a server whose certificate it made.
struct Tls {
    address: SocketAddr,
    /// How many requests got through the handshake.
    requests: Arc<AtomicUsize>,
    root: CertificateDer<'static>,
}

fn tls_server(name: &str, last_year: i32) -> Tls {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let root = params.self_signed(&ca_key).unwrap().der().clone();
    let issuer = Issuer::new(params, ca_key);

    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.not_after = date_time_ymd(last_year, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().der().clone();
    serve_tls(vec![certificate], &key, root)
}

fn self_signed_server(name: &str) -> Tls {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().der().clone();
    serve_tls(vec![certificate.clone()], &key, certificate)
}

fn serve_tls(
    chain: Vec<CertificateDer<'static>>,
    key: &KeyPair,
    root: CertificateDer<'static>,
) -> Tls {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let requests = Arc::new(AtomicUsize::new(0));
    let counter = requests.clone();
    let (address, _) = listen(move |stream| {
        let connection = ServerConnection::new(config.clone()).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        let mut first = [0; 1];
        if !matches!(stream.read(&mut first), Ok(1)) {
            return;
        }
        counter.fetch_add(1, Ordering::SeqCst);
        read_request(&mut stream);
        let _ = stream.write_all(&response("200 OK", "", GRANTED.as_bytes()));
        let _ = stream.flush();
    });
    Tls { address, requests, root }
}

/// Asks a server under the name `localhost`, with its authority trusted or not.
async fn ask_tls(server: &Tls, trusted: bool) -> Result<TokenSet, Error> {
    let transport = trusted.then(|| {
        let root = reqwest::Certificate::from_der(&server.root).unwrap();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .tls_certs_only([root])
            .build();
        Transport::with_reqwest(client.unwrap())
    });
    ask(format!("https://localhost:{}/token", server.address.port()), transport).await
}

#[tokio::test]
async fn tls_01_a_certificate_that_is_trusted_current_and_ours_is_taken() {
    let server = tls_server("localhost", 4000);
    ask_tls(&server, true).await.unwrap();
    assert_eq!(server.requests.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn tls_01_any_other_certificate_is_refused_before_anything_is_sent() {
    for (what, server, trusted) in [
        ("self-signed", self_signed_server("localhost"), false),
        ("unknown authority", tls_server("localhost", 4000), false),
        ("wrong name", tls_server("as.example", 4000), true),
        ("expired", tls_server("localhost", 2020), true),
    ] {
        let error = ask_tls(&server, trusted).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Transport, "{what}");
        assert_eq!(server.requests.load(Ordering::SeqCst), 0, "{what}");
        assert!(crate::fake::everything(&error).contains("ertificate"), "{what}: {error:?}");
    }
}
