//! Every way of authenticating that the server knows.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::Value;
use tower_oauth::{BoxError, ClientAuth, ClientCredentials, ErrorKind, TokenHandle};

use crate::server::Glewlwyd;

#[tokio::test]
async fn every_secret_gets_a_token() -> Result<(), BoxError> {
    let server = Glewlwyd::start().await;
    for auth in [
        ClientAuth::basic("basic", "plain"),
        ClientAuth::basic_unencoded("basic special", "a secret: 50 %+"),
        ClientAuth::post("post", "a secret: 50 %+"),
    ] {
        assert_granted(&server, auth).await?;
    }
    Ok(())
}

/// The server decodes no Basic credentials, although RFC 6749 §2.3.1 tells it to.
#[tokio::test]
async fn trq_05_a_server_that_does_not_decode_refuses_encoded_secrets() -> Result<(), BoxError> {
    let server = Glewlwyd::start().await;
    let auth = ClientAuth::basic("basic special", "a secret: 50 %+");
    let error = tokens(&server, auth)?.ready().await.unwrap_err();
    // 403, without a body.
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(!error.is_retryable());
    Ok(())
}

/// The token endpoint is the only audience that it takes.
#[cfg(feature = "private-key-jwt")]
#[tokio::test]
async fn jwt_02_assertions_for_the_token_endpoint_get_a_token() -> Result<(), BoxError> {
    use tower_oauth::{AssertionAudience, ClientAssertion, SigningAlgorithm, SigningKey};

    let server = Glewlwyd::start().await;
    // Without a key id it takes no signature for the client's.
    let key = || SigningKey::pem(&*server.client_key, SigningAlgorithm::Es256).key_id("1");
    let secret = "a secret of more than 32 bytes in all";
    // Loaded for each: one key does not sign for both kinds of audience.
    let assertions = |audience: AssertionAudience| {
        [
            ClientAssertion::private_key("private_key_jwt", key(), audience.clone()),
            ClientAssertion::client_secret("client_secret_jwt", secret, audience),
        ]
    };
    for assertion in assertions(server.issuer().into()) {
        let error = tokens(&server, assertion)?.ready().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    }
    for assertion in assertions(AssertionAudience::LegacyTokenEndpoint(server.token_endpoint())) {
        assert_granted(&server, assertion).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_scope_that_is_missing_is_a_refusal_without_a_reason() -> Result<(), BoxError> {
    let server = Glewlwyd::start().await;
    let auth = ClientAuth::basic("basic", "plain");
    let source = ClientCredentials::builder(server.token_endpoint(), auth).build()?;
    let error = TokenHandle::spawn(source).ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(error.to_string().contains("403"), "{error}");
    Ok(())
}

/// A token can be had, and a second one, and it is the client's.
async fn assert_granted(server: &Glewlwyd, auth: impl Into<ClientAuth>) -> Result<(), BoxError> {
    let auth = auth.into();
    let client_id = auth.client_id().to_owned();
    let tokens = tokens(server, auth)?;
    tokens.ready().await.map_err(|error| format!("{client_id}: {error}"))?;
    let token = tokens.refresh().await?;
    let claims = token.access_token().expose().split('.').nth(1).ok_or("not a JWT")?;
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims)?)?;
    assert_eq!(claims["client_id"], client_id, "{claims}");
    assert_eq!(claims["scope"], "read", "{claims}");
    Ok(())
}

fn tokens(server: &Glewlwyd, auth: impl Into<ClientAuth>) -> Result<TokenHandle, BoxError> {
    let source = ClientCredentials::builder(server.token_endpoint(), auth).scope("read").build()?;
    Ok(TokenHandle::spawn(source))
}
