//! Mutual TLS (RFC 8705): authentication by a certificate, and tokens that are bound to it.

use tower::ServiceExt as _;
use tower_oauth::{
    BoxError, ClientAuth, ClientCertificate, ClientCredentials, Discovery, ErrorKind,
    Introspection, MutualTlsClient, OAuthLayer, TokenHandle, Transport,
};

use crate::{
    common::{
        certificates::{Files, Pair},
        node::OidcServer,
    },
    harness::{Caller, HOUR},
};

#[tokio::test]
async fn mtl_01_mtl_04_each_method_gets_a_token_that_is_bound_to_its_certificate()
-> Result<(), BoxError> {
    let server = OidcServer::start_with_mutual_tls(HOUR).await;
    let (orders, own) = (&server.certificates().orders, &server.certificates().self_signed);
    for (auth, pair) in [
        (ClientAuth::tls("tls subject"), orders),
        (ClientAuth::tls("tls name"), orders),
        (ClientAuth::self_signed_tls("self-signed"), own),
        // Bound all the same.
        (ClientAuth::basic("basic bound", "secret of basic bound"), orders),
        (ClientAuth::basic("basic bound", "secret of basic bound"), own),
    ] {
        let shown = format!("{auth:?}");
        let client_id = auth.client_id().to_owned();
        let certificate = certificate(pair);
        let tokens = tokens(&server, auth, &certificate, &server.token_endpoint_alias())?;
        tokens.ready().await.map_err(|error| format!("{shown}: {error}"))?;
        let answer = Caller::over(presenting(&server, pair)?, &server, &tokens)?.call("/").await?;
        assert_eq!((answer.status, answer.client()), (200, &*client_id), "{shown}");
        assert_eq!(answer.body["cnf"]["x5t#S256"], certificate.thumbprint().await?, "{shown}");
    }
    Ok(())
}

/// Of an opaque token only the authorization server knows what it is bound to.
#[tokio::test]
async fn mtl_04_the_binding_of_an_opaque_token_is_known_by_introspection() -> Result<(), BoxError> {
    let server = OidcServer::start_with_mutual_tls(HOUR).await;
    let pair = &server.certificates().orders;
    let certificate = certificate(pair);
    let source =
        ClientCredentials::builder(server.token_endpoint_alias(), ClientAuth::tls("opaque bound"))
            .transport(Transport::mtls_with(&certificate, server.trust()))
            .resource("urn:test:opaque")
            .build()?;
    let tokens = TokenHandle::spawn(source);
    let answer = Caller::over(presenting(&server, pair)?, &server, &tokens)?.call("/").await?;
    assert_eq!(answer.status, 200);
    assert!(!answer.token().contains('.'));
    assert_eq!(answer.body["cnf"]["x5t#S256"], certificate.thumbprint().await?);
    Ok(())
}

#[tokio::test]
async fn mtl_02_where_no_certificate_is_asked_for_or_it_is_anothers_there_is_no_token()
-> Result<(), BoxError> {
    let server = OidcServer::start_with_mutual_tls(HOUR).await;
    let certificates = server.certificates();
    let (alias, conventional) = (server.token_endpoint_alias(), server.token_endpoint());
    for (auth, pair, url) in [
        (ClientAuth::tls("tls subject"), &certificates.orders, &conventional),
        (ClientAuth::tls("tls subject"), &certificates.stranger, &alias),
        (ClientAuth::tls("tls subject"), &certificates.self_signed, &alias),
        (ClientAuth::self_signed_tls("self-signed"), &certificates.orders, &alias),
    ] {
        let error = tokens(&server, auth, &certificate(pair), url)?.ready().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidClient, "{error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn mtl_04_an_api_that_was_shown_no_certificate_is_asked_twice_and_no_more()
-> Result<(), BoxError> {
    let server = OidcServer::start_with_mutual_tls(HOUR).await;
    let certificate = certificate(&server.certificates().orders);
    let auth = ClientAuth::tls("tls subject");
    let tokens = tokens(&server, auth, &certificate, &server.token_endpoint_alias())?;
    let caller = Caller::new(&server, &tokens)?; // its client has no certificate
    assert_eq!(caller.call("/").await?.status, 401);
    assert_eq!(server.api_answers().await, [("401".to_owned(), 2)].into());
    assert_eq!(server.token_requests().await.len(), 2);
    Ok(())
}

/// Where no certificate is asked for, each of these calls fails: see above.
#[tokio::test]
async fn mtl_01_mtl_02_the_aliases_are_found_by_the_issuer_for_every_call() -> Result<(), BoxError>
{
    let server = OidcServer::start_with_mutual_tls(HOUR).await;
    let certificate = certificate(&server.certificates().orders);
    let discovery = Discovery::issuer(server.issuer());
    let transport = || Transport::mtls_with(&certificate, server.trust());
    for auth in [
        ClientAuth::tls("opaque bound"),
        ClientAuth::any_of([ClientAuth::tls("opaque bound")]),
        // Its tokens are bound, however it authenticates.
        ClientAuth::basic("basic bound", "secret of basic bound"),
    ] {
        let source = ClientCredentials::builder(&discovery, auth.clone())
            .resource("urn:test:opaque")
            .transport(transport())
            .build()?;
        let tokens = TokenHandle::spawn(source);
        let token = tokens.token().await.map_err(|error| format!("{auth:?}: {error}"))?;
        let token = token.access_token().clone();
        let introspection =
            Introspection::builder(&discovery, auth).transport(transport()).build()?;
        let info = introspection.introspect(token.clone()).await?;
        let bound_to = info.member("cnf").and_then(|cnf| cnf.get("x5t#S256"));
        assert_eq!(bound_to, Some(&certificate.thumbprint().await?.into()));
        tokens.shutdown().revoke().await?;
        assert!(!introspection.introspect(token).await?.is_active());
    }
    Ok(())
}

/// A certificate that is replaced: the API checks each token against the connection's certificate.
#[tokio::test]
async fn mtl_03_tokens_go_with_their_certificate_when_it_is_replaced() -> Result<(), BoxError> {
    let server = OidcServer::start_with_mutual_tls(HOUR).await;
    let (first, second) = (&server.certificates().orders, &server.certificates().self_signed);
    let files = Files::new(first);
    let certificate = files.certificate();
    let auth = ClientAuth::basic("basic bound", "secret of basic bound");
    let tokens = tokens(&server, auth, &certificate, &server.token_endpoint_alias())?;
    let layer = OAuthLayer::new(tokens.clone(), server.api().parse()?);
    let client = MutualTlsClient::with(&certificate, server.trust());
    let service = tower::ServiceBuilder::new().layer(layer).service(client);
    for pair in [first, second, first] {
        files.write(pair);
        for _ in 0..2 {
            let request = reqwest::Request::new(reqwest::Method::GET, server.api().parse()?);
            assert_eq!(service.clone().oneshot(request).await?.status(), 200);
            tokens.refresh().await?;
        }
        let bound = tokens.token().await?.certificate_thumbprint().map(str::to_owned);
        assert_eq!(bound, Some(certificate.thumbprint().await?));
    }
    assert!(server.api_answers().await.keys().eq(["200"]));
    Ok(())
}

pub(crate) fn tokens(
    server: &OidcServer,
    auth: ClientAuth,
    certificate: &ClientCertificate,
    token_endpoint: &str,
) -> Result<TokenHandle, BoxError> {
    let source = ClientCredentials::builder(token_endpoint, auth)
        .transport(Transport::mtls_with(certificate, server.trust()))
        .scope("read")
        .build()?;
    Ok(TokenHandle::spawn(source))
}

pub(crate) fn certificate(pair: &Pair) -> ClientCertificate {
    ClientCertificate::pem(&*pair.pem, &*pair.key_pem)
}

/// A client of the API that presents a certificate.
pub(crate) fn presenting(server: &OidcServer, pair: &Pair) -> Result<reqwest::Client, BoxError> {
    let identity = reqwest::Identity::from_pem(format!("{}{}", pair.pem, pair.key_pem).as_bytes())?;
    let client = server.trust()(reqwest::Client::builder().identity(identity));
    Ok(client.redirect(reqwest::redirect::Policy::none()).build()?)
}
