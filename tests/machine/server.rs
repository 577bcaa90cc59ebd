//! An authorization server that speaks HTTP/2 over TLS, and counts its connections.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer},
    },
};

use crate::certificates::Authority;

pub(crate) struct Server {
    pub(crate) port: u16,
    /// The certificate of the authority that signed the server's.
    pub(crate) root: PathBuf,
    state: Arc<State>,
    _serving: JoinSet<()>,
}

/// How a server behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behaviour {
    pub(crate) lifetime: u64,
    pub(crate) http2: bool,
}

struct State {
    behaviour: Behaviour,
    requests: AtomicU64,
    connections: AtomicUsize,
    /// Connections with a lower number are alive, and answer no request.
    stalled: AtomicUsize,
}

impl Server {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let authority = Authority::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let root = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("machine-{}-{port}.pem", std::process::id()));
        fs::write(&root, &authority.root_pem).unwrap();
        let state = Arc::new(State {
            behaviour,
            requests: AtomicU64::new(0),
            connections: AtomicUsize::new(0),
            stalled: AtomicUsize::new(0),
        });
        let mut serving = JoinSet::new();
        serving.spawn(listen(listener, acceptor(&authority, behaviour.http2), state.clone()));
        Self { port, root, state, _serving: serving }
    }

    pub(crate) fn requests(&self) -> u64 {
        self.state.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// Answers no request on the connections that there are. Pings of HTTP/2 are answered.
    pub(crate) fn stall(&self) {
        self.state.stalled.store(self.connections(), Ordering::Relaxed);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.root));
    }
}

fn acceptor(authority: &Authority, http2: bool) -> TlsAcceptor {
    let pair = authority.server();
    let key = PrivateKeyDer::try_from(pair.key_der).unwrap();
    let chain = vec![CertificateDer::from(pair.der)];
    let mut config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = if http2 { vec![b"h2".to_vec()] } else { vec![b"http/1.1".to_vec()] };
    TlsAcceptor::from(Arc::new(config))
}

async fn listen(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        connections.spawn(serve(stream, acceptor.clone(), state.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, state: Arc<State>) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let number = state.connections.fetch_add(1, Ordering::Relaxed);
    let service = service_fn(move |_: Request<hyper::body::Incoming>| {
        let state = state.clone();
        async move {
            if number < state.stalled.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
            let token = state.requests.fetch_add(1, Ordering::Relaxed);
            let lifetime = state.behaviour.lifetime;
            let body = format!(
                r#"{{"access_token":"token-{token}","token_type":"Bearer","expires_in":{lifetime}}}"#
            );
            let response = Response::builder().header("content-type", "application/json");
            response.body(Full::new(Bytes::from(body)))
        }
    });
    let _ =
        Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}
