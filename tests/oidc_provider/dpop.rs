//! DPoP (RFC 9449), with nonces that both servers insist on.

use tower_oauth::{
    BoxError, ClientAuth, ClientCredentials, DpopAlgorithm, DpopKey, ErrorKind, RefreshToken,
    TokenExchange, TokenHandle,
};

use crate::{
    common::node::OidcServer,
    harness::{Caller, HOUR, Load},
};

#[tokio::test]
async fn dpo_03_dpo_04_dpo_07_each_kind_of_key_gets_a_token_that_the_api_takes()
-> Result<(), BoxError> {
    let server = OidcServer::start_with_dpop_nonces(HOUR).await;
    for algorithm in [DpopAlgorithm::Es256, DpopAlgorithm::EdDsa] {
        let key = DpopKey::generate(algorithm)?;
        let tokens = tokens(&server, &key)?;
        let caller = Caller::new(&server, &tokens)?;
        for path in ["/", "/?a=%20b&c", "/scope/read"] {
            let answer = caller.call(path).await?;
            assert_eq!((answer.status, answer.client()), (200, "basic dpop"), "{path}");
            assert_eq!(answer.body["cnf"]["jkt"], key.thumbprint());
            assert_eq!(answer.body["scheme"], "DPoP");
        }
    }
    // Each key learned its nonces, once at each server: 400 and 200, 401 and 200.
    let statuses: Vec<_> = server.token_requests().await.iter().map(|it| it.status).collect();
    assert_eq!(statuses, [400, 200, 400, 200]);
    assert_eq!(server.api_answers().await, [("200".into(), 6), ("401".into(), 2)].into());
    Ok(())
}

#[tokio::test]
async fn dpo_08_dpo_09_a_nonce_that_is_replaced_costs_no_token_and_the_caller_nothing()
-> Result<(), BoxError> {
    let server = OidcServer::start_with_dpop_nonces(HOUR).await;
    let tokens = tokens(&server, &DpopKey::generate(DpopAlgorithm::Es256)?)?;
    let caller = Caller::new(&server, &tokens)?;
    assert_eq!(caller.call("/").await?.status, 200);
    let before = server.token_requests().await.len();
    // The next nonce comes with an answer, and is used from then on.
    server.rotate_nonce_at_api(false).await;
    for _ in 0..2 {
        assert_eq!(caller.call("/").await?.status, 200);
    }
    assert_eq!(server.api_answers().await, [("200".into(), 3), ("401".into(), 1)].into());
    // None of before is good any more.
    server.rotate_nonce_at_api(true).await;
    for _ in 0..2 {
        assert_eq!(caller.call("/").await?.status, 200);
    }
    assert_eq!(server.api_answers().await, [("200".into(), 5), ("401".into(), 2)].into());
    assert_eq!(server.token_requests().await.len(), before);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dpo_09_callers_at_once_do_not_notice_that_nonces_change() -> Result<(), BoxError> {
    let server = OidcServer::start_with_dpop_nonces(HOUR).await;
    let tokens = tokens(&server, &DpopKey::generate(DpopAlgorithm::Es256)?)?;
    let caller = Caller::new(&server, &tokens)?;
    assert_eq!(caller.call("/").await?.status, 200);
    let load = Load::start(&caller);
    for _ in 0..10 {
        // As a server does it: the one before it stays good for a while.
        server.rotate_nonce_at_api(false).await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let used = load.stop().await?;
    assert_eq!(used.len(), 1, "one token for all of it");
    Ok(())
}

#[cfg(feature = "private-key-jwt")]
#[tokio::test]
async fn dpo_07_an_assertion_is_signed_anew_when_the_server_wants_a_nonce() -> Result<(), BoxError>
{
    use tower_oauth::{ClientAssertion, SecretSource, SigningAlgorithm, SigningKey};

    let server = OidcServer::start_with_dpop_nonces(HOUR).await;
    let pem = SecretSource::file(server.client_key("ES256", "pem"));
    let key = SigningKey::pem(pem, SigningAlgorithm::Es256);
    let auth = ClientAssertion::private_key("private_key_jwt dpop", key, server.issuer());
    let source = ClientCredentials::builder(server.token_endpoint(), auth)
        .dpop(DpopKey::generate(DpopAlgorithm::Es256)?)
        .build()?;
    let answer = Caller::new(&server, &TokenHandle::spawn(source))?.call("/").await?;
    assert_eq!((answer.status, answer.client()), (200, "private_key_jwt dpop"));
    Ok(())
}

#[tokio::test]
async fn dpo_05_refresh_tokens_are_renewed_with_the_key_and_a_public_clients_with_no_other()
-> Result<(), BoxError> {
    let server = OidcServer::start_with_dpop_nonces(HOUR).await;
    for auth in
        [ClientAuth::basic("web dpop", "secret of web dpop"), ClientAuth::none("public dpop")]
    {
        let client = auth.client_id().to_owned();
        let initial = server.sign_in(&client).await;
        let source = RefreshToken::builder(server.token_endpoint(), auth, initial)
            .dpop(DpopKey::generate(DpopAlgorithm::EdDsa)?)
            .build()?;
        let tokens = TokenHandle::spawn(source);
        let caller = Caller::new(&server, &tokens)?;
        let first = caller.call("/").await?;
        assert_eq!((first.status, first.client()), (200, &*client));
        for _ in 0..2 {
            tokens.refresh().await?;
        }
        let later = caller.call("/").await?;
        assert_eq!(later.status, 200);
        assert_ne!(later.token(), first.token());
    }
    Ok(())
}

#[tokio::test]
async fn tex_01_a_token_is_exchanged_for_one_that_is_bound_to_a_key() -> Result<(), BoxError> {
    let server = OidcServer::start_with_dpop_nonces(HOUR).await;
    let (alice, key) = (server.assertion("alice").await, DpopKey::generate(DpopAlgorithm::Es256)?);
    let auth = ClientAuth::basic("basic dpop", "secret of basic dpop");
    let source = TokenExchange::builder(server.token_endpoint(), auth, alice, TokenExchange::JWT)
        .dpop(key.clone())
        .build()?;
    let answer = Caller::new(&server, &TokenHandle::spawn(source))?.call("/").await?;
    assert_eq!((answer.status, answer.body["sub"].as_str()), (200, Some("alice")));
    assert_eq!(answer.body["cnf"]["jkt"], key.thumbprint());
    Ok(())
}

/// The server calls it `invalid_grant`.
#[tokio::test]
async fn a_client_that_must_prove_a_key_and_does_not_gets_no_token() -> Result<(), BoxError> {
    let server = OidcServer::start_with_dpop_nonces(HOUR).await;
    let auth = ClientAuth::basic("basic dpop", "secret of basic dpop");
    let source = ClientCredentials::builder(server.token_endpoint(), auth).build()?;
    let error = TokenHandle::spawn(source).ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidGrant);
    Ok(())
}

/// `express-oauth2-jwt-bearer`, whose checks are not ours, knows no nonces.
#[tokio::test]
async fn dpo_03_dpo_04_an_api_of_another_author_takes_the_proofs() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await.with_foreign_api().await;
    for algorithm in [DpopAlgorithm::Es256, DpopAlgorithm::EdDsa] {
        let key = DpopKey::generate(algorithm)?;
        let caller = Caller::new(&server, &tokens(&server, &key)?)?;
        for path in ["/", "/?a=b", "/scope/read"] {
            let answer = caller.call(path).await?;
            assert_eq!(answer.status, 200, "{algorithm:?} {path}");
            assert_eq!(answer.body["cnf"]["jkt"], key.thumbprint());
        }
        assert_eq!(caller.call("/scope/write").await?.status, 403);
    }
    assert_eq!(server.api_answers().await, [("200".into(), 6), ("403".into(), 2)].into());
    assert_eq!(server.token_requests().await.len(), 2);
    Ok(())
}

fn tokens(server: &OidcServer, key: &DpopKey) -> Result<TokenHandle, BoxError> {
    let auth = ClientAuth::basic("basic dpop", "secret of basic dpop");
    let source = ClientCredentials::builder(server.token_endpoint(), auth)
        .scope("read")
        .dpop(key.clone())
        .build()?;
    Ok(TokenHandle::spawn(source))
}
