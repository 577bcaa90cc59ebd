//! `Debug` says what a thing is, and nothing that is secret.
#![cfg(all(test, feature = "full", unix))]

use log_watch as _;

use std::{fmt::Debug, time::Duration};

use http::Request;
use tower_oauth::{
    BoxError, Buffered, Chain, ClientAuth, ClientCredentials, Discovery, FetchContext, FixedToken,
    FromService, Introspection, JwtBearer, OAuthLayer, Origins, RefreshToken, Revocation,
    Saml2Bearer, Secret, SecretSource, TokenExchange, TokenHandle, TokenPool, TokenSet, Transport,
    middleware::{Replay, ReplayBody},
    source_fn,
    store::{FileStore, KeyRing, KeyringStore, MemoryStore, Persisted, RedisStore},
};

const MARK: &str = "kanarienvogel";

/// Nothing of a secret, on one line or on many, and the name of the type.
#[track_caller]
fn shows_only(name: &str, value: &impl Debug) {
    let (line, lines) = (format!("{value:?}"), format!("{value:#?}"));
    assert!(line.contains(name), "{line:?} does not tell that it is a {name}");
    for text in [&line, &lines] {
        assert!(!text.to_lowercase().contains(MARK), "{text}");
    }
}

fn auth() -> ClientAuth {
    ClientAuth::basic("orders", MARK)
}

fn token() -> TokenSet {
    TokenSet::bearer(MARK).expect("it fits a header").with_lifetime(Duration::from_secs(60))
}

const URL: &str = "https://idp.example/token";

#[test]
fn f57_debug_of_what_makes_tokens_shows_no_secret() {
    shows_only("ClientAuth", &auth());
    shows_only("ClientCredentials", &ClientCredentials::builder(URL, auth()).build().unwrap());
    shows_only("GrantBuilder", &ClientCredentials::builder(URL, auth()));
    shows_only("RefreshToken", &RefreshToken::builder(URL, auth(), MARK).build().unwrap());
    shows_only("JwtBearer", &JwtBearer::builder(URL, auth(), MARK).build().unwrap());
    shows_only("Saml2Bearer", &Saml2Bearer::builder(URL, auth(), MARK).build().unwrap());
    let kind = "urn:ietf:params:oauth:token-type:jwt";
    let exchange = TokenExchange::builder(URL, auth(), MARK, kind).build().unwrap();
    shows_only("TokenExchange", &exchange);
    shows_only("Discovery", &Discovery::issuer("https://idp.example"));
    shows_only("Revocation", &Revocation::builder(URL, auth()).build().unwrap());
    shows_only("EndpointBuilder", &Revocation::builder(URL, auth()));
    shows_only("Introspection", &Introspection::builder(URL, auth()).build().unwrap());
    shows_only("FixedToken", &FixedToken::new(token()));
    shows_only("Chain", &Chain::new(FixedToken::new(token())));
    shows_only("SourceFn", &source_fn(|_| async { Ok(token()) }));
    let service = tower::service_fn(async |_: FetchContext| Ok::<_, BoxError>(token()));
    shows_only("FromService", &FromService::new(service));
    let transport = Transport::new(tower::service_fn(async |_: Request<bytes::Bytes>| {
        Ok::<_, BoxError>(http::Response::new(String::new()))
    }));
    shows_only("Transport", &transport);
    shows_only("TokenSet", &token());
    shows_only("Secret", &Secret::from(MARK));
    shows_only("literal", &SecretSource::from(MARK));
}

#[tokio::test(start_paused = true)]
async fn f57_debug_of_what_uses_tokens_shows_no_secret() {
    let builder = TokenHandle::builder(FixedToken::new(token()));
    shows_only("TokenHandleBuilder", &builder);
    let handle = builder.spawn();
    shows_only("Token", &handle.token().await.unwrap());
    shows_only("TokenHandle", &handle);
    shows_only("Status", &handle.status());
    shows_only("Shutdown", &handle.shutdown());
    let origins: Origins = "https://api.example".parse().unwrap();
    shows_only("https://api.example", &origins);
    let layer = OAuthLayer::new(handle, origins.clone());
    shows_only("OAuthLayer", &layer);
    let inner = tower::service_fn(async |_: Request<String>| {
        Ok::<_, BoxError>(http::Response::new(String::new()))
    });
    let mut service = tower::Layer::layer(&layer, inner);
    let response = tower::Service::call(&mut service, Request::new(MARK.to_owned()));
    shows_only("ResponseFuture", &response);
    let (_, refresher) = TokenHandle::pair(FixedToken::new(token()));
    shows_only("Refresher", &refresher);

    let pool = TokenPool::builder(|_: &String| FixedToken::new(token()));
    shows_only("TokenPoolBuilder", &pool);
    let pool = pool.spawn();
    shows_only("TokenPool", &pool);
    let keyed = OAuthLayer::keyed(pool, origins, |_: &Request<String>| Some(MARK.to_owned()));
    shows_only("KeyedOAuthLayer", &keyed);
    let inner = tower::service_fn(async |_: Request<String>| {
        Ok::<_, BoxError>(http::Response::new(String::new()))
    });
    shows_only("KeyedOAuth", &tower::Layer::layer(&keyed, inner));

    let request = Request::new(http_body_util::Full::new(bytes::Bytes::from(MARK)));
    let (request, kept) = Buffered::up_to(64).keep(request);
    let body: &ReplayBody<_> = request.body();
    shows_only("ReplayBody", body);
    shows_only("BufferedRequest", &kept.unwrap());
    let request = reqwest::Client::new().post("https://api.example").body(MARK).build().unwrap();
    shows_only("BufferedReqwest", &Buffered::up_to(64).keep(request).1.unwrap());
}

#[tokio::test(start_paused = true)]
async fn f57_debug_of_stores_shows_no_secret() {
    let keys = KeyRing::new("2026", MARK).unwrap();
    shows_only("2026", &keys);
    let memory = MemoryStore::new();
    let source = RefreshToken::builder(URL, auth(), MARK).build().unwrap();
    shows_only("MemoryStore", &memory);
    shows_only("Persisted", &Persisted::new(source, memory));
    shows_only("FileStore", &FileStore::new("/var/lib/orders", keys.clone()));
    shows_only("KeyringStore", &KeyringStore::new("/var/lib/orders"));
    let url = format!("rediss://orders:{MARK}@redis.example");
    let builder = RedisStore::builder(&*url, keys);
    shows_only("RedisStoreBuilder", &builder);
    shows_only("RedisStore", &builder.build().unwrap());
}
