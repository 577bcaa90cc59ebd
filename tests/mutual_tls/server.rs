//! An HTTPS server that asks for a client certificate, and remembers who said what on which
//! connection.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
        client::danger::HandshakeSignatureValid,
        crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, PrivateKeyDer, UnixTime},
        server::danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use tower_oauth::Transport;

use crate::common::certificates::Authority;

/// A request, and the connection it came on.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// The client's own certificate, if it presented one, in DER.
    pub(crate) certificate: Option<Vec<u8>>,
    /// Counted from 0 for each server.
    pub(crate) connection: usize,
    head: String,
    body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn params(&self) -> Vec<(String, String)> {
        form_urlencoded::parse(self.body.as_bytes()).into_owned().collect()
    }
}

/// What is answered: a status line with header fields, and a body.
pub(crate) type Reply = (String, String);

pub(crate) struct Server {
    port: u16,
    root_pem: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    open: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(
        authority: &Authority,
        answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let open = Arc::new(AtomicUsize::new(0));
        let state =
            State { acceptor: acceptor(authority), answer, seen: seen.clone(), open: open.clone() };
        let mut serving = JoinSet::new();
        serving.spawn(state.listen(listener));
        Self { port, root_pem: authority.root_pem.clone(), seen, open, _serving: serving }
    }

    /// Gives token-1, token-2 and so on; each lives an hour.
    pub(crate) async fn start_authorization_server(authority: &Authority) -> Self {
        let next = AtomicUsize::new(1);
        Self::start(authority, move |_| {
            let token = format!("token-{}", next.fetch_add(1, Ordering::Relaxed));
            let body =
                format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":3600}}"#);
            ("200 OK\r\ncontent-type: application/json".to_owned(), body)
        })
        .await
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Trusts the authority that made this server's certificate, and nobody else.
    pub(crate) fn trust(
        &self,
    ) -> impl Fn(reqwest::ClientBuilder) -> reqwest::ClientBuilder + Send + Sync + 'static + use<>
    {
        let root = reqwest::Certificate::from_pem(self.root_pem.as_bytes()).unwrap();
        move |client| client.no_proxy().tls_certs_only([root.clone()])
    }

    pub(crate) fn transport(&self, certificate: &tower_oauth::ClientCertificate) -> Transport {
        Transport::mtls_with(certificate, self.trust())
    }
}

struct State<F> {
    acceptor: TlsAcceptor,
    answer: F,
    seen: Arc<Mutex<Vec<Seen>>>,
    open: Arc<AtomicUsize>,
}

impl<F: Fn(&Seen) -> Reply + Send + Sync + 'static> State<F> {
    async fn listen(self, listener: TcpListener) {
        let state = Arc::new(self);
        let mut connections = JoinSet::new();
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let state = state.clone();
            connections.spawn(async move {
                state.open.fetch_add(1, Ordering::Relaxed);
                state.serve(stream, number).await;
                state.open.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }

    /// Serves a connection until it ends, in whatever way.
    async fn serve(&self, stream: TcpStream, connection: usize) -> Option<()> {
        let mut stream = self.acceptor.accept(stream).await.ok()?;
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = certificate.map(|certificate| certificate.to_vec());
        loop {
            let (head, body) = read_request(&mut stream).await?;
            let seen = Seen { certificate: certificate.clone(), connection, head, body };
            self.seen.lock().unwrap().push(seen.clone());
            let (head, body) = (self.answer)(&seen);
            let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.ok()?;
        }
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<(String, String)> {
    let mut request = String::new();
    loop {
        let mut buffer = [0; 4096];
        let read = stream.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        request.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        let Some((head, body)) = request.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
            return Some((head.to_owned(), body.to_owned()));
        }
    }
}

fn acceptor(authority: &Authority) -> TlsAcceptor {
    let pair = authority.server();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = vec![pair.der.into(), CertificateDer::from(authority.root_der.clone())];
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(Arc::new(AnyCertificate(provider)))
        .with_single_cert(chain, PrivateKeyDer::try_from(pair.key_der).unwrap())
        .unwrap();
    Arc::new(config).into()
}

/// Takes every certificate whose key the client has, also a self-signed one: the tests judge.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
