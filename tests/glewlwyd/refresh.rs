//! Refresh tokens that work once.

use tower::ServiceExt as _;
use tower_oauth::{
    BoxError, ClientAuth, CloneRequest, ErrorKind, OAuthLayer, RefreshToken, TokenHandle,
};

use crate::server::Glewlwyd;

#[tokio::test]
async fn rfr_02_each_refresh_token_is_used_once_and_the_last_one_works() -> Result<(), BoxError> {
    let server = Glewlwyd::start().await;
    let initial = server.sign_in().await;
    let source = || {
        let auth = ClientAuth::basic("web", "plain");
        RefreshToken::builder(server.token_endpoint(), auth, initial.as_str()).build()
    };
    let tokens = TokenHandle::spawn(source()?);
    tokens.ready().await?;
    for _ in 0..3 {
        tokens.refresh().await?;
    }

    let layer = OAuthLayer::new(tokens, server.origin().parse()?).replay(CloneRequest);
    let api = tower::ServiceBuilder::new().layer(layer).service(server.client());
    let request = server.client().get(format!("{}/userinfo", server.issuer())).build()?;
    let answer = api.oneshot(request).await?;
    assert_eq!(answer.status(), 200);

    // 400, without a body.
    let error = TokenHandle::spawn(source()?).ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error:?}");
    assert!(!error.is_retryable());
    Ok(())
}
