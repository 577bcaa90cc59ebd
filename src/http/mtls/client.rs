use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Extensions, HeaderValue, header::AUTHORIZATION};
use reqwest::{Body, ClientBuilder, Request, Response, redirect::Policy};
use tower_service::Service;

use super::{ClientCertificate, Identity, clients::Clients};
use crate::error::{BoxError, Error};

/// An HTTP client for APIs that want to see a client certificate, to put below
/// [`OAuthLayer`](crate::OAuthLayer). Feature `mtls`.
///
/// A token that was obtained with a certificate may be bound to it, and then it is good only on
/// connections that present the same one ([RFC 8705 §3]). The layer notes on each request which
/// certificate its token came with, and this client sends it over connections with that
/// certificate, and no others. So while a certificate is replaced, requests with the old token go
/// out with the old certificate, and requests with the new token with the new one. The connections of
/// a certificate that was replaced are closed as soon as no token is left that came with it.
///
/// A request without such a token is sent with the current certificate, which is read again every 10 s.
/// One request waits for that, 1 s at most: if a provider takes longer, fails or panics, the request
/// is sent with the certificate that was read before. Only while there is none yet, requests wait for
/// 30 s.
///
/// ```
/// use tower::ServiceBuilder;
/// use tower_oauth::{
///     ClientAuth, ClientCertificate, ClientCredentials, MutualTlsClient, OAuthLayer, SecretSource,
///     TokenHandle, Transport,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_oauth::BoxError> {
/// let certificate = ClientCertificate::pem(
///     SecretSource::file("/run/secrets/tls.crt"),
///     SecretSource::file("/run/secrets/tls.key"),
/// );
/// let source = ClientCredentials::builder("https://mtls.idp.example/token", ClientAuth::tls("orders"))
///     .transport(Transport::mtls(&certificate))
///     .build()?;
/// let tokens = TokenHandle::spawn(source);
/// tokens.follow(&certificate); // a new token as soon as the certificate is replaced
///
/// let api = ServiceBuilder::new()
///     .layer(OAuthLayer::new(tokens, "https://api.example".parse()?))
///     .service(MutualTlsClient::new(&certificate));
/// # let _ = api;
/// # Ok(())
/// # }
/// ```
///
/// [RFC 8705 §3]: https://www.rfc-editor.org/rfc/rfc8705#section-3
#[derive(Debug, Clone)]
pub struct MutualTlsClient(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    certificate: ClientCertificate,
    clients: Clients,
}

type ResponseFuture<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// In the extensions of a request: the certificate that its token was obtained with.
#[derive(Debug, Clone)]
struct Bound {
    /// The token, as the request had it. Another one may have taken its place since.
    authorization: HeaderValue,
    identity: Arc<Identity>,
}

impl MutualTlsClient {
    /// A reqwest client with its default settings for each certificate, but that it follows no
    /// redirects: they would take the token to other origins. [`with`](Self::with) can set
    /// [`Origins::redirect_policy`](crate::Origins::redirect_policy).
    pub fn new(certificate: &ClientCertificate) -> Self {
        Self::with(certificate, |client| client)
    }

    /// As [`new`](Self::new), with settings of your own, such as timeouts and private root
    /// certificates. The function is called for each certificate.
    pub fn with<F>(certificate: &ClientCertificate, configure: F) -> Self
    where
        F: Fn(ClientBuilder) -> ClientBuilder + Send + Sync + 'static,
    {
        // First, so that the caller can allow redirects where the token may go.
        let configure = move |client: ClientBuilder| configure(client.redirect(Policy::none()));
        let clients = Clients::new(Box::new(configure));
        Self(Arc::new(Inner { certificate: certificate.clone(), clients }))
    }
}

impl Inner {
    /// The client whose connections present the certificate that the request's token came with.
    async fn client(&self, bound: Option<Arc<Identity>>) -> Result<reqwest::Client, Error> {
        let identity = match bound {
            Some(identity) => identity,
            None => self.certificate.recent().await?,
        };
        self.clients.of(&identity)
    }
}

/// Notes which certificate a request's token was obtained with.
pub(crate) fn bind(
    extensions: &mut Extensions,
    authorization: HeaderValue,
    identity: Arc<Identity>,
) {
    extensions.insert(Bound { authorization, identity });
}

/// What was noted, if the request still has that token.
fn bound<B>(request: &http::Request<B>) -> Option<Arc<Identity>> {
    let Bound { authorization, identity } = request.extensions().get()?;
    let same = request.headers().get(AUTHORIZATION) == Some(authorization);
    same.then(|| identity.clone())
}

impl<B: Into<Body>> Service<http::Request<B>> for MutualTlsClient {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = ResponseFuture<http::Response<Body>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let inner = self.0.clone();
        let bound = bound(&request);
        let request = Request::try_from(request);
        Box::pin(async move {
            let client = inner.client(bound).await?;
            Ok(client.execute(request?).await?.into())
        })
    }
}

impl Service<Request> for MutualTlsClient {
    type Response = Response;
    type Error = BoxError;
    type Future = ResponseFuture<Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move {
            // reqwest shows the extensions of its requests to nobody; those of this one it does.
            let url = request.url().clone();
            let request = http::Request::<Body>::try_from(request)?;
            let client = inner.client(bound(&request)).await?;
            let mut request = Request::try_from(request)?;
            *request.url_mut() = url;
            Ok(client.execute(request).await?)
        })
    }
}
