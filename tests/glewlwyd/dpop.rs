//! DPoP (RFC 9449), with a nonce that the server insists on.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PKCS_ED25519, SigningKey as _};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use tower_oauth::{
    BoxError, ClientAuth, ClientCredentials, CloneRequest, DpopAlgorithm, DpopKey, FetchContext,
    OAuthLayer, RefreshToken, Token, TokenHandle, TokenSource, TokenType,
};

use crate::server::Glewlwyd;

#[tokio::test]
async fn dpo_07_each_kind_of_key_gets_a_token_that_is_bound_to_it() -> Result<(), BoxError> {
    let server = Glewlwyd::start().await;
    for algorithm in [DpopAlgorithm::Es256, DpopAlgorithm::EdDsa] {
        let key = DpopKey::generate(algorithm)?;
        let auth = ClientAuth::basic("basic", "plain");
        let source = ClientCredentials::builder(server.token_endpoint(), auth)
            .scope("read")
            .dpop(key.clone())
            .build()?;
        let tokens = TokenHandle::spawn(source);
        tokens.ready().await.map_err(|error| format!("{algorithm:?}: {error}"))?;
        assert_bound(&tokens.refresh().await?, &key)?;
    }
    Ok(())
}

/// It reads a coarse clock, which is milliseconds late, and takes no proof from the future.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "the server looks at this machine's clock too")]
async fn dpo_13_a_proof_made_just_as_a_second_begins_is_not_from_the_future() -> Result<(), BoxError>
{
    let server = Glewlwyd::start().await;
    let auth = ClientAuth::basic("basic", "plain");
    let source = ClientCredentials::builder(server.token_endpoint(), auth)
        .scope("read")
        .dpop(DpopKey::generate(DpopAlgorithm::EdDsa)?)
        .build()?;
    source.fetch(FetchContext::first()).await?;
    for _ in 0..3 {
        while SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_micros() >= 300 {
            std::hint::spin_loop();
        }
        source.fetch(FetchContext::first()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn dpo_05_a_refresh_token_gets_bound_tokens_that_the_server_takes_as_api()
-> Result<(), BoxError> {
    let server = Glewlwyd::start().await;
    let pair = KeyPair::generate_for(&PKCS_ED25519)?;
    let key = DpopKey::from_pem(&pair.serialize_pem().into())?;
    let initial = server.sign_in_bound(|nonce| proof(&pair, &server.token_endpoint(), nonce)).await;
    let auth = ClientAuth::basic("web", "plain");
    let source =
        RefreshToken::builder(server.token_endpoint(), auth, initial).dpop(key.clone()).build()?;
    let tokens = TokenHandle::spawn(source);
    for _ in 0..3 {
        assert_bound(&tokens.refresh().await?, &key)?;
    }
    let layer = OAuthLayer::new(tokens, server.origin().parse()?).replay(CloneRequest);
    let api = tower::ServiceBuilder::new().layer(layer).service(server.client());
    for _ in 0..3 {
        let request = server.client().get(format!("{}/userinfo", server.issuer())).build()?;
        assert_eq!(api.clone().oneshot(request).await?.status(), 200);
    }
    Ok(())
}

/// What a browser's client would have sent for the first refresh token.
#[expect(clippy::disallowed_methods, reason = "the server looks at this machine's clock too")]
fn proof(pair: &KeyPair, url: &str, nonce: &str) -> String {
    let encode = |part: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(part);
    let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key_raw()) });
    let header = json!({ "typ": "dpop+jwt", "alg": "EdDSA", "jwk": jwk });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
    let claims = json!({
        "jti": format!("sign-in {nonce}"), "htm": "POST", "htu": url, "iat": now, "nonce": nonce,
    });
    let signed = [header, claims].map(|part| encode(part.to_string().as_bytes())).join(".");
    let signature = pair.sign(signed.as_bytes()).expect("a signature");
    format!("{signed}.{}", encode(&signature))
}

fn assert_bound(token: &Token, key: &DpopKey) -> Result<(), BoxError> {
    assert_eq!(token.token_type(), TokenType::Dpop);
    let claims = token.access_token().expose().split('.').nth(1).ok_or("not a JWT")?;
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims)?)?;
    assert_eq!(claims["cnf"]["jkt"], key.thumbprint(), "{claims}");
    Ok(())
}
