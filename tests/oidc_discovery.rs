//! Discovery, revocation and introspection against `oidc-provider`, a server that is not ours.
#![cfg(feature = "reqwest")]

use log_watch as _;

mod common;

use std::time::Duration;

use common::node::OidcServer;
use tower_oauth::{
    BoxError, ClientAuth, ClientCredentials, Discovery, ErrorKind, FetchContext, Introspection,
    RefreshToken, Revocation, TokenHandle, TokenSource, discovery::EndpointKind,
};

#[tokio::test]
async fn dsc_01_the_endpoints_are_found_by_the_issuer_alone() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    let discovery = Discovery::issuer(server.issuer());
    let metadata = discovery.metadata().await?;
    assert_eq!(metadata.endpoint(EndpointKind::Token)?, server.token_endpoint().as_str());
    let auth = ClientAuth::secret("basic", "secret of basic");
    let tokens = TokenHandle::spawn(ClientCredentials::builder(&discovery, auth).build()?);
    tokens.ready().await?;
    assert_eq!(server.token_requests().await.len(), 1);
    // A slash more is another issuer.
    let other = Discovery::issuer(format!("{}/", server.issuer()));
    assert_eq!(other.metadata().await.unwrap_err().kind(), ErrorKind::Discovery);
    Ok(())
}

#[tokio::test]
async fn rev_01_rev_02_a_token_is_active_until_its_handle_revokes_it() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    let discovery = Discovery::issuer(server.issuer());
    let auth = || ClientAuth::secret("basic", "secret of basic");
    let introspection = Introspection::builder(&discovery, auth()).build()?;

    let source = ClientCredentials::builder(&discovery, auth());
    let source = source.resource("urn:test:opaque").scope("read").build()?;
    let tokens = TokenHandle::spawn(source);
    let token = tokens.token().await?.access_token().clone();
    let info = introspection.introspect(token.clone()).await?;
    assert!(info.is_active());
    assert_eq!(info.client_id(), Some("basic"));
    assert_eq!(info.scopes().map(|scopes| scopes.to_string()).as_deref(), Some("read"));
    assert_eq!(info.audience(), ["urn:test:opaque"]);
    assert!(info.expires_at() > info.issued_at());

    tokens.shutdown().revoke().await?;
    assert!(!introspection.introspect(token).await?.is_active());
    assert!(!introspection.introspect("no token at all").await?.is_active());
    Ok(())
}

#[tokio::test]
async fn rev_01_with_its_refresh_token_a_whole_session_is_revoked() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    let discovery = Discovery::issuer(server.issuer());
    let auth = || ClientAuth::secret("web", "secret of web");
    let initial = server.sign_in("web").await;
    let source = RefreshToken::builder(&discovery, auth(), initial).build()?;
    let token = source.fetch(FetchContext::first()).await?;
    let rotated = token.refresh_token().cloned().ok_or("it was rotated")?;

    // The refresh token is revoked. The access token is a JWT, which this server cannot revoke, and
    // says so.
    let mut cx = FetchContext::first();
    cx.previous = Some(token.into());
    let error = source.revoke(cx).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnsupportedTokenType, "{error}");
    let source = RefreshToken::builder(&discovery, auth(), rotated).build()?;
    let error = TokenHandle::spawn(source).ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidGrant);
    Ok(())
}

#[tokio::test]
async fn rev_01_a_client_that_is_not_known_revokes_nothing() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    let auth = ClientAuth::secret("basic", "another secret");
    let revocation = Revocation::builder(Discovery::issuer(server.issuer()), auth).build()?;
    let error = revocation.revoke_access_token("a").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidClient);
    Ok(())
}

#[cfg(feature = "private-key-jwt")]
#[tokio::test]
async fn jwt_03_trq_07_a_key_is_chosen_and_signs_for_the_discovered_issuer() -> Result<(), BoxError>
{
    use tower_oauth::{
        AssertionAudience, ClientAssertion, SecretSource, SigningAlgorithm, SigningKey,
    };

    let server = OidcServer::start_with_signing_clients(HOUR).await;
    let pem = SecretSource::file(server.client_key("ES256", "pem"));
    let key = SigningKey::pem(pem, SigningAlgorithm::Es256);
    let client = "private_key_jwt ES256";
    let auth = ClientAuth::any_of([
        ClientAuth::secret(client, "it has none"),
        ClientAssertion::private_key(client, key, AssertionAudience::Discovered).into(),
    ]);
    let discovery = Discovery::issuer(server.issuer());
    let source = ClientCredentials::builder(&discovery, auth.clone());
    let tokens = TokenHandle::spawn(source.resource("urn:test:opaque").build()?);
    let token = tokens.token().await?.access_token().clone();
    let introspection = Introspection::builder(&discovery, auth).build()?;
    assert!(introspection.introspect(token.clone()).await?.is_active());
    tokens.shutdown().revoke().await?;
    assert!(!introspection.introspect(token).await?.is_active());
    Ok(())
}

const HOUR: Duration = Duration::from_secs(3600);
