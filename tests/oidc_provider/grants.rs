//! Every grant, and on whose behalf its token is.

use serde_json::{Value, json};
use tower_oauth::{
    BoxError, ClientAuth, ErrorKind, JwtBearer, RefreshToken, Saml2Bearer, TokenExchange,
    TokenHandle, TokenSource,
};

use crate::{
    common::node::OidcServer,
    harness::{Caller, HOUR, client_credentials},
};

#[tokio::test]
async fn an_assertion_becomes_a_token_of_its_subject() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    let url = server.token_endpoint();
    let jwt = server.assertion("alice").await;
    let source = JwtBearer::builder(&url, auth(), jwt).scope("read").build()?;
    assert_eq!(claims(&server, source).await?["sub"], "alice");

    let xml = "<saml:Assertion><saml:Subject><saml:NameID>bob</saml:NameID></saml:Subject>\
               </saml:Assertion>";
    let source = Saml2Bearer::builder(&url, auth(), xml).scope("read").build()?;
    assert_eq!(claims(&server, source).await?["sub"], "bob");
    Ok(())
}

#[tokio::test]
async fn an_assertion_that_is_not_believed_is_an_invalid_grant() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    let jwt = server.assertion("alice").await;
    let (rest, _) = jwt.rsplit_once('.').ok_or("a JWT has three parts")?;
    let forged = format!("{rest}.{}", "A".repeat(86));
    let source = JwtBearer::builder(server.token_endpoint(), auth(), forged).build()?;
    let error = TokenHandle::spawn(source).ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidGrant);
    assert!(!format!("{error:?}").contains(rest));
    Ok(())
}

/// [RFC 8693](https://www.rfc-editor.org/rfc/rfc8693): who is meant, and who acts for them.
#[tokio::test]
async fn tex_01_a_token_is_exchanged_for_one_with_its_subject_and_actor() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    let alice = server.assertion("alice").await;
    let gateway = server.assertion("gateway").await;
    let source = TokenExchange::builder(server.token_endpoint(), auth(), alice, TokenExchange::JWT)
        .actor_token(gateway, TokenExchange::JWT)
        .resource("urn:test:jwt")
        .scope("read")
        .build()?;
    let claims = claims(&server, source).await?;
    assert_eq!(claims["sub"], "alice");
    assert_eq!(claims["act"], json!({ "sub": "gateway" }));
    assert_eq!(claims["scope"], "read");
    Ok(())
}

/// An access token of the same server, of which only it knows whose it is.
#[tokio::test]
async fn tex_01_an_access_token_is_exchanged_too() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    let subject = client_credentials(&server)?.token().await?.access_token().expose().to_owned();
    let url = server.token_endpoint();
    let exchange = |token: &str| {
        TokenExchange::builder(&url, auth(), token, TokenExchange::ACCESS_TOKEN).build()
    };
    assert_eq!(claims(&server, exchange(&subject)?).await?["sub"], "basic");
    let error = TokenHandle::spawn(exchange("unknown")?).ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    Ok(())
}

#[tokio::test]
async fn a_public_client_renews_with_its_refresh_token() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    let initial = server.sign_in("public").await;
    let source =
        RefreshToken::builder(server.token_endpoint(), ClientAuth::none("public"), initial);
    let tokens = TokenHandle::spawn(source.build()?);
    let caller = Caller::new(&server, &tokens)?;
    let first = caller.call("/").await?;
    assert_eq!((first.status, first.client()), (200, "public"));
    tokens.refresh().await?;
    let second = caller.call("/").await?;
    assert_eq!(second.body["sub"], "alice");
    assert_ne!(second.token(), first.token());
    Ok(())
}

/// RFC 9700 §4.14.2: whoever has an old refresh token has stolen it, or was stolen from.
#[tokio::test]
async fn rfr_06_a_refresh_token_used_twice_ends_the_session_for_everybody() -> Result<(), BoxError>
{
    let server = OidcServer::start(HOUR).await;
    let stolen = server.sign_in("web").await;
    let auth = || ClientAuth::basic("web", "secret of web");
    let source = || RefreshToken::builder(server.token_endpoint(), auth(), stolen.as_str());
    let ours = TokenHandle::spawn(source().build()?);
    ours.ready().await?;
    ours.refresh().await?; // with the rotated one

    let theirs = TokenHandle::spawn(source().build()?).ready().await.unwrap_err();
    assert_eq!(theirs.kind(), ErrorKind::InvalidGrant);
    let error = ours.refresh().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidGrant);
    assert!(error.needs_user());
    Ok(())
}

/// What the API says about a token from this source.
async fn claims(server: &OidcServer, source: impl TokenSource) -> Result<Value, BoxError> {
    let tokens = TokenHandle::spawn(source);
    tokens.ready().await?;
    let answer = Caller::new(server, &tokens)?.call("/").await?;
    assert_eq!((answer.status, answer.client()), (200, "grants"));
    Ok(answer.body)
}

fn auth() -> ClientAuth {
    ClientAuth::basic("grants", "secret of grants")
}
