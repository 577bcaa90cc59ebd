//! The authorization server: it issues, rotates and revokes, and it fails in all the ways that the
//! weather has.

mod answer;
mod book;
mod fault;

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, header::AUTHORIZATION};
use http_body_util::{BodyExt, Collected, Full};
use tokio::time::sleep;
use tower::Service;

use answer::{AnswerBody, Delivery};
pub(crate) use book::{Book, Terms};
use fault::{Fault, Way};

use crate::{
    canary,
    ledger::{Invariant, Key},
    world::World,
};

/// A connection of one client to the authorization server.
#[derive(Clone)]
pub(crate) struct Issuer {
    world: World,
    book: Book,
    instance: usize,
}

/// A connection that broke.
#[derive(Debug)]
pub(crate) struct Broken(pub(crate) &'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the connection broke: {}", self.0)
    }
}

impl std::error::Error for Broken {}

/// What a token request asks for.
struct Asked {
    key: Key,
    secret: String,
    refresh_token: Option<String>,
    scope: String,
}

impl Issuer {
    pub(crate) fn new(world: &World, book: &Book, instance: usize) -> Self {
        Self { world: world.clone(), book: book.clone(), instance }
    }

    async fn exchange(self, request: Request<Full<Bytes>>) -> Result<Response<AnswerBody>, Broken> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
        self.world.require(Invariant::I4, parts.uri.host() == Some(HOST), || {
            format!("a token request went to {:?}", parts.uri.host())
        });
        let asked = read(&parts.headers, &body).ok_or(Broken("nobody reads that"))?;
        let arrived = self.world.now();
        self.world.ledger().asked(self.instance);
        let fault = Fault::draw(&self.world, asked.key);
        if !matches!(fault.way, Way::Whole) || fault.reply.is_some() || !fault.delay.is_zero() {
            self.world.ledger().say(format!("{} meets {fault:?}", self.instance));
        }
        if let Way::Refused = fault.way {
            return Err(Broken("refused"));
        }
        // On a task of its own: a server goes on when its client is gone.
        let task = tokio::spawn(async move {
            sleep(self.world.dice().seconds(0.005, 0.2)).await;
            if let Way::HangsUnread = fault.way {
                sleep(HANG).await;
                return Err(Broken("nobody answered"));
            }
            if let Way::ResetUnread = fault.way {
                return Err(Broken("reset"));
            }
            let reply = match fault.reply {
                Some(reply) => reply,
                None => self.book.answer(&self.world, &asked, fault.shape, arrived),
            };
            let delivery = Delivery::new(&self.world, self.instance, &reply);
            sleep(fault.delay).await;
            match fault.way {
                Way::Hangs => {
                    sleep(HANG).await;
                    Err(Broken("nobody answered"))
                }
                Way::Reset => Err(Broken("reset after the request was taken")),
                way => Ok(answer::respond(reply, way, delivery)),
            }
        });
        task.await.unwrap_or(Err(Broken("the server fell over")))
    }
}

/// RFC 6749 §2.3.1: the identifier and the secret are form-encoded first.
fn read(headers: &HeaderMap, body: &[u8]) -> Option<Asked> {
    let credentials = headers.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let credentials = String::from_utf8(BASE64_STANDARD.decode(credentials).ok()?).ok()?;
    let (id, secret) = credentials.split_once(':')?;
    let secret = format!("s={secret}");
    let secret = form_urlencoded::parse(secret.as_bytes()).next()?.1.into_owned();
    let key = id.strip_prefix("client-")?.parse().ok()?;
    let member = |wanted: &str| {
        let (_, value) = form_urlencoded::parse(body).find(|(name, _)| name == wanted)?;
        Some(value.into_owned())
    };
    let (refresh_token, scope) = (member("refresh_token"), member("scope").unwrap_or_default());
    Some(Asked { key, secret, refresh_token, scope })
}

impl Service<Request<Full<Bytes>>> for Issuer {
    type Response = Response<AnswerBody>;
    type Error = Broken;
    type Future = Pin<Box<dyn Future<Output = Result<Response<AnswerBody>, Broken>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        Box::pin(self.clone().exchange(request))
    }
}

/// The number of a refresh token.
fn refresh_number(token: &str) -> Option<usize> {
    canary::number_of("rt", token)
}

/// Where it is.
pub(crate) const HOST: &str = "idp.example";
pub(crate) const ENDPOINT: &str = "https://idp.example/oauth2/token";
/// Longer than anybody waits.
const HANG: Duration = Duration::from_secs(120);
