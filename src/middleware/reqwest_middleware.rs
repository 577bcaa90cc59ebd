//! The layer as a middleware of the crate `reqwest-middleware`.

use std::{
    future::Future,
    pin::Pin,
    task::{Context as TaskContext, Poll},
};

use http::Extensions;
use reqwest::{Request, Response};
use reqwest_middleware::{Error as MiddlewareError, Middleware, Next};
use tokio::sync::Mutex;
use tower_service::Service;

use super::{
    NoReplay, OAuthLayer, SecondService,
    attempt::{WaitingRequest, wait_and_send},
    replay::Replay,
};
use crate::{
    error::{BoxError, Error},
    refresh::TokenHandle,
};

/// `OAuthLayer` is a middleware too: `ClientBuilder::new(client).with(layer)`. The rules are the
/// same ones: origins, an `Authorization` header that is there already, waiting, replay.
///
/// The client follows redirects below this middleware, with the token on the request. Build the
/// client with [`Origins::redirect_policy`](crate::Origins::redirect_policy): its default policy
/// sends the token to a foreign origin at the second hop (reqwest 0.12 and 0.13).
///
/// ```
/// use reqwest_middleware::ClientBuilder;
/// use tower_oauth::{CloneRequest, FixedToken, OAuthLayer, Origins, TokenHandle, TokenSet};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_oauth::BoxError> {
/// let tokens = TokenHandle::spawn(FixedToken::new(TokenSet::bearer("abc")?));
/// let origins: Origins = "https://api.example".parse()?;
/// let client = reqwest::Client::builder().redirect(origins.redirect_policy()).build()?;
/// let client = ClientBuilder::new(client)
///     .with(OAuthLayer::new(tokens, origins).replay(CloneRequest))
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
        if let Some(exempt) = context.exempt(&request) {
            if let Some(error) = context.refusal(exempt) {
                return Err(MiddlewareError::middleware(error));
            }
            context.passed(exempt, &request);
            return next.run(replay.pass(request), extensions).await;
        }
        let (request, kept) = replay.keep(request);
        let extensions = Mutex::new(extensions);
        let service = Rest { next, extensions: &extensions };
        let origins = context.origins.clone();
        let waiting = WaitingRequest { context, key: (), origins, kept };
        let second = NoReplay::second;
        let outcome =
            wait_and_send::<_, Request, R, TokenHandle, _>(waiting, service, second, request).await;
        outcome.map_err(leave)
    }
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
