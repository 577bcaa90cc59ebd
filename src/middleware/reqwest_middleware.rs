//! The layer as a middleware of the crate `reqwest-middleware`.

use std::{
    future::Future,
    pin::Pin,
    task::{Context as TaskContext, Poll},
};

use http::{Extensions, header::AUTHORIZATION};
use reqwest::{Request, Response};
use reqwest_middleware::{Error as MiddlewareError, Middleware, Next};
use tokio::sync::Mutex;
use tower_service::Service;

use super::{
    NoReplay, OAuthLayer, SecondService,
    attempt::{Waiting, wait_and_send},
    context::{Context, Exempt},
    replay::Replay,
};
use crate::{
    error::{BoxError, Error},
    http::HttpRequest,
    refresh::TokenHandle,
    slot::Sharded,
};

/// `OAuthLayer` is a middleware too: `ClientBuilder::new(client).with(layer)`. The rules are the
/// same ones: origins, an `Authorization` header that is there already, waiting, replay.
///
/// What the client follows by itself are redirects below this middleware: reqwest drops the token
/// on the way to another host.
///
/// ```
/// use reqwest_middleware::ClientBuilder;
/// use tower_oauth::{CloneRequest, FixedToken, OAuthLayer, TokenHandle, TokenSet};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_oauth::BoxError> {
/// let tokens = TokenHandle::spawn(FixedToken::new(TokenSet::bearer("abc")?));
/// let client = ClientBuilder::new(reqwest::Client::new())
///     .with(OAuthLayer::new(tokens, "https://api.example".parse()?).replay(CloneRequest))
///     .build();
/// # let _ = client;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Ours come out as [`reqwest_middleware::Error::Middleware`], and are found in it with
/// `error.downcast_ref::<tower_oauth::Error>()`.
#[async_trait::async_trait]
impl<R> Middleware for OAuthLayer<R>
where
    R: Replay<Request, Sent = Request> + Send + Sync + 'static,
    R::Kept: Sync,
{
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let (context, replay) = self.parts();
        if let Some(exempt) = exempt(context, &request) {
            return match context.refusal(exempt) {
                None => next.run(replay.pass(request), extensions).await,
                Some(error) => Err(MiddlewareError::middleware(error)),
            };
        }
        let (request, kept) = replay.keep(request);
        let extensions = Mutex::new(extensions);
        let service = Rest { next, extensions: &extensions };
        let origins = context.origins.clone();
        let context = Sharded::new(|| context.clone());
        let waiting = Waiting { context, key: (), origins, kept };
        let second = NoReplay::second;
        let outcome =
            wait_and_send::<_, Request, R, TokenHandle>(waiting, service, second, request).await;
        outcome.map_err(leave)
    }
}

/// Why a request gets no token, if it does not.
fn exempt(context: &Context, request: &Request) -> Option<Exempt> {
    if !context.origins.allow(request.target()) {
        return Some(Exempt::Foreign);
    }
    let present = !context.replaces() && request.headers().contains_key(AUTHORIZATION);
    present.then_some(Exempt::Present)
}

/// What the rest of the chain says leaves as it is.
fn leave(error: BoxError) -> MiddlewareError {
    match error.downcast::<MiddlewareError>() {
        Ok(error) => *error,
        Err(error) => match error.downcast::<Error>() {
            Ok(error) => MiddlewareError::middleware(*error),
            Err(error) => MiddlewareError::middleware(Error::other(error)),
        },
    }
}

/// The middlewares after this one, and the client: always ready.
#[derive(Clone)]
struct Rest<'a, 'e> {
    next: Next<'a>,
    /// Lent to one attempt after the other, never to two at once.
    extensions: &'a Mutex<&'e mut Extensions>,
}

impl<'a> Service<Request> for Rest<'a, '_> {
    type Response = Response;
    type Error = MiddlewareError;
    type Future = Pin<Box<dyn Future<Output = Result<Response, MiddlewareError>> + Send + 'a>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), MiddlewareError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (next, extensions) = (self.next.clone(), self.extensions);
        Box::pin(async move { next.run(request, &mut **extensions.lock().await).await })
    }
}
