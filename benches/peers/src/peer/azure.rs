use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use azure_core::{
    Bytes, Result,
    credentials::{AccessToken, TokenCredential, TokenRequestOptions},
    error::{Error, ErrorKind},
    http::{
        AsyncRawResponse, Context, Method, Request, StatusCode,
        headers::{ACCEPT, Headers, USER_AGENT},
        policies::{Policy, PolicyResult, auth::BearerTokenAuthorizationPolicy},
    },
    time::OffsetDateTime,
};

use crate::{
    cost::Bench,
    endpoint::Endpoint,
    point::{self, Scenario, authorize},
    service::ORIGIN,
};

/// A credential that asks the endpoint without HTTP.
#[derive(Debug)]
struct Credential(Endpoint);

#[async_trait]
impl TokenCredential for Credential {
    async fn get_token(
        &self,
        _: &[&str],
        _: Option<TokenRequestOptions<'_>>,
    ) -> Result<AccessToken> {
        let answer = self.0.fetch().await;
        let (token, lifetime) =
            answer.map_err(|e| Error::with_message(ErrorKind::Credential, e))?;
        let expires = OffsetDateTime::now_utc() + Duration::from_secs(lifetime);
        Ok(AccessToken::new(token, expires))
    }
}

/// The end of the pipeline: answers at once.
#[derive(Debug)]
struct End;

#[async_trait]
impl Policy for End {
    async fn send(&self, _: &Context, _: &mut Request, _: &[Arc<dyn Policy>]) -> PolicyResult {
        Ok(AsyncRawResponse::from_bytes(StatusCode::Ok, Headers::new(), Bytes::new()))
    }
}

/// Its policy over a pipeline's end; the bare service is that end, asked by itself.
pub fn cost(bench: &mut Bench<'_>) {
    let endpoint = bench.runtime.block_on(Endpoint::start(3600));
    let (policy, next) = policy(&endpoint);
    let bare = async || drop(End.send(&Context::new(), &mut request(), &[]).await);
    bench.row_over("azure_core", bare, async || {
        drop(policy.send(&Context::new(), &mut request(), &next).await.expect("it answers"));
    });
}

/// Due from the start: it renews a token five minutes before its end.
pub async fn point(scenario: Scenario, quick: bool) -> String {
    let endpoint = Endpoint::start(290).await;
    let (policy, next) = policy(&endpoint);
    let peer = authorize(move || {
        let (policy, next) = (policy.clone(), next.clone());
        async move {
            let sent = policy.send(&Context::new(), &mut request(), &next).await;
            sent.map(drop).map_err(|error| error.to_string())
        }
    });
    point::run("azure_core", scenario, &endpoint, peer, quick).await
}

fn policy(endpoint: &Endpoint) -> (BearerTokenAuthorizationPolicy, Vec<Arc<dyn Policy>>) {
    let credential = Arc::new(Credential(endpoint.clone()));
    (BearerTokenAuthorizationPolicy::new(credential, ["scope"]), vec![Arc::new(End)])
}

fn request() -> Request {
    let mut request = Request::new(ORIGIN.parse().expect("a URL"), Method::Get);
    request.insert_header(ACCEPT, "application/json");
    request.insert_header(USER_AGENT, "bench/1.0");
    request
}
