//! Loopback servers that misbehave as the ledger tells them, over HTTP/1.1 and HTTP/2.

use std::{io, sync::Arc, time::Duration};

use crate::{
    ledger::{ANSWER, Ledger},
    story::{Plan, Story, TRAILER, content, cut},
    terms::{Act, Form, Role, Shape},
};
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};

/// The three listeners of a run, before anything is accepted.
pub(crate) struct Listeners {
    listeners: [TcpListener; 3],
    pub(crate) origins: [String; 3],
}

impl Listeners {
    pub(crate) async fn bind() -> Self {
        let bind = || async { TcpListener::bind(("127.0.0.1", 0)).await.unwrap() };
        let listeners = [bind().await, bind().await, bind().await];
        let origin = |l: &TcpListener| format!("http://{}", l.local_addr().unwrap());
        let origins = [&listeners[0], &listeners[1], &listeners[2]].map(origin);
        Self { listeners, origins }
    }

    /// Accepts connections until the set is dropped.
    pub(crate) fn serve(self, ledger: &Arc<Ledger>) -> JoinSet<()> {
        let mut servers = JoinSet::new();
        for (listener, role) in self.listeners.into_iter().zip(Role::ALL) {
            servers.spawn(accept(listener, ledger.clone(), role));
        }
        servers
    }
}

async fn accept(listener: TcpListener, ledger: Arc<Ledger>, role: Role) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        let ledger = ledger.clone();
        connections.spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let ledger = ledger.clone();
                async move { answer(&ledger, role, request).await }
            });
            let builder = auto::Builder::new(TokioExecutor::new());
            // An error is what the client makes of it.
            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(
    ledger: &Ledger,
    role: Role,
    request: Request<Incoming>,
) -> io::Result<Response<Story>> {
    let (head, body) = request.into_parts();
    let (request, act) = ledger.arrive(role, &head.method, &head.headers);
    if act.reads_body() {
        let whole = match body.collect().await {
            Ok(whole) => whole,
            Err(error) => {
                ledger.say(&format_args!("request {request}: its body ended with {error}"));
                return Err(io::Error::other(error));
            }
        };
        let trailers = whole.trailers().cloned();
        let bytes = whole.to_bytes();
        ledger.stored(request, &head.method, &head.headers, &bytes, trailers.as_ref());
    }
    let short = Shape { length: 32, chunks: 1, exact: true, trailers: false };
    let mut location = None;
    let (status, shape, form) = match act {
        Act::Serve(shape) | Act::BreakOff(shape) => (200, shape, None),
        Act::Status(status, shape) => (status, shape, None),
        Act::Refuse { form: Form::Grpc, shape, .. } => (200, shape, Some(Form::Grpc)),
        Act::Refuse { form, shape, .. } => (401, shape, Some(form)),
        Act::Redirect(status, to) => {
            location = Some(format!("{}/elsewhere", ledger.origin(to)));
            (status, short, None)
        }
        Act::Reset { .. } => return Err(io::ErrorKind::ConnectionReset.into()),
        Act::Hang(time) => {
            sleep(time).await;
            (200, short, None)
        }
    };
    let mut plan = Plan {
        chunks: cut(&content(request ^ 0xA5, shape.length), shape.chunks),
        exact: shape.exact && !shape.trailers,
        pause: Duration::ZERO,
        trailers: shape.trailers,
        fails_at: None,
    };
    if matches!(act, Act::BreakOff(_)) {
        plan.fails_at = Some(plan.chunks.len().saturating_sub(1));
    }
    // hyper resets an HTTP/2 stream whose request it has not read, and its client takes that for the
    // end of the answer.
    let whole = act.reads_body() || head.version < Version::HTTP_2;
    let digest = whole.then(|| plan.digest());
    let number = ledger.give(request, status, digest, plan.trailers);
    let mut response = Response::new(Story::new(Arc::new(plan)));
    *response.status_mut() = StatusCode::from_u16(status).expect("it is a status");
    let fields = response.headers_mut();
    fields.insert(ANSWER, number.into());
    fields.insert(header::TRAILER, HeaderValue::from_static(TRAILER));
    match form {
        Some(Form::Grpc) => {
            fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            fields.insert("grpc-status", HeaderValue::from_static("16"));
        }
        Some(Form::Challenge(Some(challenge))) => {
            fields.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        _ => {}
    }
    if let Some(location) = location {
        fields.insert(header::LOCATION, location.parse().expect("it is a URL"));
    }
    Ok(response)
}
