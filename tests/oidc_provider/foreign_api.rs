//! An API whose checks are not ours: `express-oauth2-jwt-bearer`.

use tower_oauth::{BoxError, ClientAuth, ClientCredentials, TokenHandle};

use crate::{
    common::node::OidcServer,
    harness::{Caller, HOUR, client_credentials},
};

#[tokio::test]
async fn a_bearer_token_is_taken_and_too_little_scope_costs_no_token_request()
-> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await.with_foreign_api().await;
    let caller = Caller::new(&server, &client_credentials(&server)?)?;
    let answer = caller.call("/").await?;
    assert_eq!((answer.status, answer.client()), (200, "basic"));
    assert_eq!(caller.call("/scope/read").await?.status, 200);
    assert_eq!(caller.call("/scope/write").await?.status, 403);
    assert_eq!(server.token_requests().await.len(), 1);
    assert_eq!(server.api_answers().await, [("200".into(), 2), ("403".into(), 1)].into());
    Ok(())
}

/// It refuses what is not for it, and says so as RFC 6750 has it: one new token, and no more.
#[tokio::test]
async fn a_refused_token_is_replaced_once() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await.with_foreign_api().await;
    let auth = ClientAuth::basic("basic", "secret of basic");
    let source = ClientCredentials::builder(server.token_endpoint(), auth)
        .resource("urn:test:opaque")
        .build()?;
    let caller = Caller::new(&server, &TokenHandle::spawn(source))?;
    assert_eq!(caller.call("/").await?.status, 401);
    assert_eq!(server.api_answers().await, [("401".into(), 2)].into());
    assert_eq!(server.token_requests().await.len(), 2);
    Ok(())
}

#[cfg(feature = "mtls")]
#[tokio::test]
async fn mtl_04_a_token_is_taken_with_its_certificate_and_with_no_other() -> Result<(), BoxError> {
    use crate::mutual_tls::{certificate, presenting, tokens};

    let server = OidcServer::start_with_mutual_tls(HOUR).await.with_foreign_api().await;
    let certificates = server.certificates();
    let auth = ClientAuth::tls("tls subject");
    let certificate = certificate(&certificates.orders);
    let tokens = tokens(&server, auth, &certificate, &server.token_endpoint_alias())?;
    for (pair, status) in [(&certificates.orders, 200), (&certificates.stranger, 401)] {
        let caller = Caller::over(presenting(&server, pair)?, &server, &tokens)?;
        assert_eq!(caller.call("/").await?.status, status);
    }
    assert_eq!(server.api_answers().await, [("200".into(), 1), ("401".into(), 2)].into());
    Ok(())
}
