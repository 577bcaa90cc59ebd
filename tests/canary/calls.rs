//! Discovery, revocation and introspection, with everything that can go wrong in them.

use http::Request;
use tower::service_fn;
use tower_oauth::{
    ClientAuth, ClientCredentials, Discovery, FetchContext, Introspection, RefreshToken,
    ResourceDiscovery, Revocation, Secret, TokenHandle, TokenSet, TokenSource, Transport,
};

use crate::{
    record::Record,
    run::{ACCESS_TOKEN, CLIENT, CLIENT_SECRET, REFRESH_TOKEN, server},
};

fn auth() -> ClientAuth {
    ClientAuth::any_of([ClientAuth::secret(CLIENT, CLIENT_SECRET)])
}

pub(crate) async fn calls_that_work(record: &Record) {
    let server = server().await;
    let discovery = Discovery::issuer(server.url());
    let source = ClientCredentials::builder(&discovery, auth()).build().unwrap();
    record.debug((&discovery, &source, discovery.metadata().await.unwrap()));
    let tokens = TokenHandle::spawn(source);
    let token = tokens.token().await.unwrap().access_token().clone();
    let introspection = Introspection::builder(&discovery, auth()).build().unwrap();
    record.debug((&introspection, introspection.introspect(token).await.unwrap()));
    record.debug(tokens.shutdown().revoke().await);
}

/// Servers that repeat what they get, in every way that is an answer.
pub(crate) async fn calls_that_fail(record: &Record) {
    for status in [200, 302, 400, 401, 503] {
        let echo = Transport::new(service_fn(move |request: Request<bytes::Bytes>| async move {
            let header = request.headers().get("authorization");
            let header = header.map(|header| header.to_str().unwrap_or_default().to_owned());
            let body = String::from_utf8_lossy(request.body()).into_owned();
            let said = serde_json::json!({
                "error": "unsupported_token_type",
                "error_description": body,
                "error_uri": header,
                "issuer": body,
                "active": body,
                "resource": body,
            });
            let answer = http::Response::builder().status(status).body(said.to_string());
            Ok::<_, std::convert::Infallible>(answer.unwrap_or_default())
        }));
        let url = "https://as.example/endpoint";
        let revocation = Revocation::builder(url, auth()).transport(echo.clone()).build().unwrap();
        let token = TokenSet::bearer(ACCESS_TOKEN).unwrap().with_refresh_token(REFRESH_TOKEN);
        record.debug((&revocation, revocation.revoke(&token).await));
        let introspection = Introspection::builder(url, auth());
        let introspection = introspection.transport(echo.clone()).build().unwrap();
        record.debug(introspection.introspect(Secret::from(ACCESS_TOKEN)).await);
        let discovery = Discovery::issuer("https://as.example").transport(echo.clone());
        record.debug((&discovery, discovery.metadata().await, discovery.last_error()));
        let source = RefreshToken::builder(&discovery, auth(), REFRESH_TOKEN).build().unwrap();
        record.debug((&source, source.fetch(FetchContext::first()).await));
        record.debug(source.revoke(FetchContext::first()).await);
        let resources = ResourceDiscovery::new([discovery]).transport(echo);
        record.debug((&resources, resources.of_resource(url).await));
    }
}
