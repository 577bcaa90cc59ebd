//! Mutual TLS at an API: a token goes only with the certificate that it was obtained with.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use tokio::task::JoinSet;
use tower::{Service, ServiceBuilder, ServiceExt as _};
use tower_oauth::{
    BoxError, ClientAuth, ClientCertificate, ClientCredentials, CloneRequest, MutualTlsClient,
    OAuthLayer, Origins, TokenHandle,
};

use crate::{
    common::certificates::{Authority, Files, Pair},
    server::{Reply, Seen, Server},
};

/// An authorization server that binds each token to the certificate it was asked for with, and an
/// API that takes it with no other.
struct Servers {
    authority: Authority,
    issuer: Server,
    api: Server,
}

impl Servers {
    async fn start() -> Self {
        let authority = Authority::new();
        let owners = Arc::new(Mutex::new(HashMap::new()));
        let (next, given) = (AtomicUsize::new(1), owners.clone());
        let issuer = Server::start(&authority, move |request| {
            let token = format!("token-{}", next.fetch_add(1, Ordering::Relaxed));
            given.lock().unwrap().insert(format!("Bearer {token}"), request.certificate.clone());
            let body =
                format!(r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":3600}}"#);
            ("200 OK\r\ncontent-type: application/json".to_owned(), body)
        });
        let api = Server::start(&authority, move |request| {
            let owners = owners.lock().unwrap();
            let owner = request.header("authorization").and_then(|token| owners.get(token));
            answer(owner.is_some_and(|owner| owner.is_some() && *owner == request.certificate))
        });
        let (issuer, api) = (issuer.await, api.await);
        Self { authority, issuer, api }
    }

    fn tokens(&self, certificate: &ClientCertificate) -> TokenHandle {
        TokenHandle::spawn(self.source(certificate))
    }

    fn source(&self, certificate: &ClientCertificate) -> ClientCredentials {
        ClientCredentials::builder(self.issuer.url("/token"), ClientAuth::tls("orders"))
            .transport(self.issuer.transport(certificate))
            .build()
            .unwrap()
    }

    fn client(&self, certificate: &ClientCertificate) -> MutualTlsClient {
        MutualTlsClient::with(certificate, self.api.trust())
    }

    fn layer(&self, tokens: &TokenHandle) -> OAuthLayer {
        OAuthLayer::new(tokens.clone(), self.api.url("").parse().unwrap())
    }

    fn request(&self) -> reqwest::Request {
        reqwest::Request::new(reqwest::Method::GET, self.api.url("/?a=%20b").parse().unwrap())
    }

    fn http_request(&self) -> http::Request<String> {
        http::Request::get(self.api.url("/")).body(String::new()).unwrap()
    }

    /// How often the API saw a token with its certificate, and how often with another.
    fn verdicts(&self) -> BTreeMap<bool, usize> {
        let issued = self.issuer.seen();
        let owner = |token: &str| {
            let number: usize = token.strip_prefix("Bearer token-").unwrap().parse().unwrap();
            issued[number - 1].certificate.as_ref()
        };
        let mut verdicts = BTreeMap::new();
        for seen in self.api.seen() {
            let same = owner(seen.header("authorization").unwrap()) == seen.certificate.as_ref();
            *verdicts.entry(same).or_default() += 1;
        }
        verdicts
    }
}

fn answer(good: bool) -> Reply {
    let refusal = "401 Unauthorized\r\nwww-authenticate: Bearer error=\"invalid_token\"";
    (if good { "200 OK" } else { refusal }.to_owned(), String::new())
}

/// reqwest's default policy takes the certificate along at once, and the token at the second hop.
#[tokio::test]
async fn f105_a_client_with_certificates_follows_redirects_only_where_it_is_told()
-> Result<(), BoxError> {
    let authority = Authority::new();
    let issuer = Server::start_authorization_server(&authority).await;
    let foreign = Server::start(&authority, |_| answer(true)).await;
    let away = format!("302 Found\r\nlocation: {}", foreign.url("/"));
    let api = Server::start(&authority, move |_| (away.clone(), String::new())).await;
    let files = Files::new(&authority.client("client"));
    let certificate = files.certificate();
    let servers = Servers { authority, issuer, api };
    let tokens = servers.tokens(&certificate);
    let origins: Origins = servers.api.url("").parse()?;
    let (trust, trust_too) = (servers.api.trust(), servers.api.trust());
    let (policy, any) = (origins.clone(), Origins::danger_any_origin());
    let clients = [
        (servers.client(&certificate), 302),
        (
            MutualTlsClient::with(&certificate, move |client| {
                trust(client).redirect(policy.redirect_policy())
            }),
            302,
        ),
        (
            MutualTlsClient::with(&certificate, move |client| {
                trust_too(client).redirect(any.redirect_policy())
            }),
            200,
        ),
    ];
    for (client, expected) in clients {
        assert!(foreign.seen().is_empty());
        let service = ServiceBuilder::new().layer(servers.layer(&tokens)).service(client);
        assert_eq!(service.oneshot(servers.request()).await?.status(), expected);
    }
    assert_eq!(foreign.seen().len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mtl_03_a_certificate_replaced_under_load_meets_no_token_of_another() -> Result<(), BoxError>
{
    let servers = Servers::start().await;
    let pairs: Vec<_> = (0..4).map(|n| servers.authority.client(&format!("client-{n}"))).collect();
    let files = Files::new(&pairs[0]);
    let certificate = files.certificate();
    let tokens = servers.tokens(&certificate);
    let client = servers.client(&certificate);
    let service = ServiceBuilder::new().layer(servers.layer(&tokens)).service(client);

    let stop = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for n in 0..8 {
        let (service, stop) = (service.clone(), stop.clone());
        let (request, http_request) = (servers.request(), servers.http_request());
        callers.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let status = if n % 2 == 0 {
                    let request = request.try_clone().unwrap();
                    service.clone().oneshot(request).await?.status()
                } else {
                    service.clone().oneshot(http_request.clone()).await?.status()
                };
                assert_eq!(status, 200);
            }
            Ok::<_, BoxError>(())
        });
    }
    for pair in &pairs {
        files.write(pair);
        tokens.refresh().await?;
        let before = servers.api.seen().len();
        while servers.api.seen().len() < before + 50 {
            if let Some(ended) = callers.try_join_next() {
                ended??; // too early: it has failed
            }
            tokio::task::yield_now().await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for outcome in callers.join_all().await {
        outcome?;
    }
    assert!(servers.verdicts().keys().eq([&true]), "{:?}", servers.verdicts());
    let mut presented: Vec<_> = servers.api.seen().into_iter().map(certificate_of).collect();
    presented.dedup();
    for pair in &pairs {
        assert!(presented.contains(&pair.der), "each certificate was in use");
    }
    Ok(())
}

/// Each tenant has a certificate of its own, and all share one client.
#[cfg(feature = "pool")]
#[tokio::test]
async fn mtl_03_each_tenants_token_goes_with_the_tenants_certificate() -> Result<(), BoxError> {
    let servers = Arc::new(Servers::start().await);
    let pairs = [0, 1].map(|tenant| servers.authority.client(&format!("tenant-{tenant}")));
    let certificates = pairs.clone().map(|pair| ClientCertificate::pem(pair.pem, pair.key_pem));
    let (of_tenants, at) = (certificates.clone(), servers.clone());
    let pool =
        tower_oauth::TokenPool::builder(move |tenant: &usize| at.source(&of_tenants[*tenant]))
            .spawn();
    let origins = servers.api.url("").parse()?;
    let layer = OAuthLayer::keyed(pool, origins, |request: &http::Request<String>| {
        request.headers().get("x-tenant")?.to_str().ok()?.parse().ok()
    });
    let service = ServiceBuilder::new().layer(layer).service(servers.client(&certificates[0]));
    for tenant in [0, 1, 0, 1] {
        let mut request = servers.http_request();
        request.headers_mut().insert("x-tenant", tenant.into());
        assert_eq!(service.clone().oneshot(request).await?.status(), 200);
    }
    let [first, second] = pairs.map(|pair| pair.der);
    let presented: Vec<_> = servers.api.seen().into_iter().map(certificate_of).collect();
    assert!(presented == [first.clone(), second.clone(), first, second]);
    Ok(())
}

/// The layer has put the token on it, and something below holds it up.
#[tokio::test]
async fn mtl_03_a_request_on_its_way_keeps_the_certificate_of_its_token() -> Result<(), BoxError> {
    let servers = Servers::start().await;
    let (first, second) = (servers.authority.client("first"), servers.authority.client("second"));
    let files = Files::new(&first);
    let certificate = files.certificate();
    let tokens = servers.tokens(&certificate);
    tokens.ready().await?;

    let mut client = servers.client(&certificate); // always ready
    let (mut held, layer) =
        (tower_test::mock::pair::<_, reqwest::Response>(), servers.layer(&tokens));
    let call = tokio::spawn(layer_over(layer, held.0).oneshot(servers.request()));
    let (request, answer) = held.1.next_request().await.unwrap();
    files.write(&second);
    for _ in 0..3 {
        tokens.refresh().await?; // and the token of the first certificate is gone
    }
    answer.send_response(client.call(request).await?);
    assert_eq!(call.await??.status(), 200);

    let unhindered = ServiceBuilder::new().layer(servers.layer(&tokens)).service(client);
    assert_eq!(unhindered.oneshot(servers.request()).await?.status(), 200);
    let presented: Vec<_> = servers.api.seen().into_iter().map(certificate_of).collect();
    assert!(presented == [first.der, second.der]);
    Ok(())
}

/// What is sent again has a newer token, and goes with the certificate of that.
#[tokio::test]
async fn mtl_03_a_replayed_request_goes_with_the_certificate_of_its_new_token()
-> Result<(), BoxError> {
    let servers = Servers::start().await;
    let (first, second) = (servers.authority.client("first"), servers.authority.client("second"));
    let files = Files::new(&first);
    let certificate = files.certificate();
    let tokens = servers.tokens(&certificate);
    let refusals = AtomicUsize::new(1);
    let refusing = Server::start(&servers.authority, move |_| {
        answer(
            refusals
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                .is_err(),
        )
    })
    .await;
    tokens.ready().await?;
    files.write(&second);

    let layer = OAuthLayer::new(tokens, refusing.url("").parse()?).replay(CloneRequest);
    let service = ServiceBuilder::new().layer(layer).service(servers.client(&certificate));
    let request = reqwest::Request::new(reqwest::Method::GET, refusing.url("/").parse()?);
    assert_eq!(service.oneshot(request).await?.status(), 200);
    let presented: Vec<_> = refusing.seen().into_iter().map(certificate_of).collect();
    assert!(presented == [first.der, second.der]);
    Ok(())
}

#[tokio::test]
async fn mtl_03_connections_are_kept_for_each_certificate_and_end_with_its_last_token()
-> Result<(), BoxError> {
    let servers = Servers::start().await;
    let (first, second) = (servers.authority.client("first"), servers.authority.client("second"));
    let files = Files::new(&first);
    let certificate = files.certificate();
    let (one, other) = (servers.tokens(&certificate), servers.tokens(&certificate));
    let client = servers.client(&certificate);
    let call = async |tokens: &TokenHandle| {
        let service = ServiceBuilder::new().layer(servers.layer(tokens)).service(client.clone());
        service.oneshot(servers.http_request()).await.map(|answer| answer.status().as_u16())
    };
    for tokens in [&one, &other, &one] {
        assert_eq!(call(tokens).await?, 200);
    }
    files.write(&second);
    one.refresh().await?; // the other has a token of the first certificate still
    for tokens in [&one, &other, &one, &other] {
        assert_eq!(call(tokens).await?, 200);
    }
    other.refresh().await?;
    files.write(&first);
    one.refresh().await?; // the first certificate again: its connections of before are closed
    assert_eq!(call(&one).await?, 200);
    let connections: Vec<_> = servers.api.seen().iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 0, 0, 1, 0, 1, 0, 2]);
    assert!(servers.verdicts().keys().eq([&true]));
    Ok(())
}

#[tokio::test]
async fn a_request_without_such_a_token_goes_with_the_certificate_read_last() -> Result<(), BoxError>
{
    let servers = Servers::start().await;
    let own = Pair::self_signed("orders");
    let certificate = ClientCertificate::pem(own.pem, own.key_pem);
    let answer = servers.client(&certificate).oneshot(servers.request()).await?;
    assert_eq!(answer.status(), 401);
    assert!(servers.api.seen().into_iter().map(certificate_of).eq([own.der]));
    Ok(())
}

/// It used to be sent with the first certificate that was ever read.
#[tokio::test]
async fn mtl_03_a_request_without_such_a_token_sees_that_the_certificate_was_replaced()
-> Result<(), BoxError> {
    let servers = Servers::start().await;
    let (first, second) = (servers.authority.client("first"), servers.authority.client("second"));
    let files = Files::new(&first);
    let certificate = files.certificate();
    let client = servers.client(&certificate);
    client.clone().oneshot(servers.request()).await?;
    // Only one of the two files so far: they are no pair, and the old one is still good.
    files.write_certificate(&second.pem);
    certificate.thumbprint().await.unwrap_err();
    client.clone().oneshot(servers.request()).await?;
    files.write(&second);
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(10)).await;
    tokio::time::resume();
    client.clone().oneshot(servers.request()).await?;
    let seen: Vec<_> = servers.api.seen().into_iter().map(certificate_of).collect();
    assert!(seen == [first.der.clone(), first.der, second.der]);
    Ok(())
}

/// They used to stay open until a client with another certificate was built, or for good.
#[tokio::test]
async fn mtl_03_the_connections_of_a_replaced_certificate_are_closed_at_once()
-> Result<(), BoxError> {
    let servers = Servers::start().await;
    let (first, second) = (servers.authority.client("first"), servers.authority.client("second"));
    let files = Files::new(&first);
    let certificate = files.certificate();
    let tokens = servers.tokens(&certificate);
    let client = servers.client(&certificate);
    let service = ServiceBuilder::new().layer(servers.layer(&tokens)).service(client.clone());
    assert_eq!(service.oneshot(servers.http_request()).await?.status(), 200);
    assert_eq!(servers.api.open(), 1);
    files.write(&second);
    tokens.refresh().await?;
    // The API is not called any more.
    for _ in 0..500 {
        if servers.api.open() == 0 {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the connection with the old certificate is still open");
}

/// Another layer below, or the caller's own service, has put another token in its place.
#[tokio::test]
async fn mtl_03_what_was_noted_of_one_token_does_not_count_for_another() -> Result<(), BoxError> {
    let servers = Servers::start().await;
    let (first, second) = (servers.authority.client("first"), servers.authority.client("second"));
    let files = Files::new(&first);
    let certificate = files.certificate();
    let tokens = servers.tokens(&certificate);
    tokens.ready().await?;
    let service = ServiceBuilder::new()
        .layer(servers.layer(&tokens))
        .map_request(|mut request: http::Request<String>| {
            request.headers_mut().insert("authorization", "Bearer token-1x".parse().unwrap());
            request
        })
        .service(servers.client(&certificate));
    files.write(&second);
    certificate.thumbprint().await?;
    assert_eq!(service.oneshot(servers.http_request()).await?.status(), 401);
    assert!(servers.api.seen().into_iter().map(certificate_of).eq([second.der]));
    Ok(())
}

/// The API's client has the certificate that the tokens are bound to, by its own account.
#[tokio::test]
async fn mtl_04_a_token_tells_what_it_is_bound_to() -> Result<(), BoxError> {
    let servers = Servers::start().await;
    let pair = servers.authority.client("orders");
    let certificate = ClientCertificate::pem(pair.pem, pair.key_pem);
    let token = servers.tokens(&certificate).token().await?;
    assert_eq!(token.certificate_thumbprint(), Some(&*certificate.thumbprint().await?));
    Ok(())
}

fn layer_over<S>(layer: OAuthLayer, service: S) -> tower_oauth::OAuth<S> {
    ServiceBuilder::new().layer(layer).service(service)
}

fn certificate_of(seen: Seen) -> Vec<u8> {
    seen.certificate.expect("a certificate was presented")
}
