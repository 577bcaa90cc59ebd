use std::time::Duration;

use tower::{Service, ServiceBuilder, ServiceExt, timeout::TimeoutLayer};
use tower_oauth::{
    BoxError, ClientAuth, ClientCredentials, CloneRequest, OAuthLayer, Origins, SecretSource,
    TokenHandle,
};

pub(super) async fn main() -> Result<(), BoxError> {
    let secret = SecretSource::from(super::SECRET);
    let source =
        ClientCredentials::builder(super::token_endpoint(), ClientAuth::basic("basic", secret))
            .scope("read")
            .build()?;

    let tokens = TokenHandle::spawn(source);
    tokens.ready().await?; // optional: fail at start-up, not at the first request

    let origins: Origins = super::origin().parse()?;
    // Redirects to other origins are not followed, so that the token goes to none of them.
    let http = reqwest::Client::builder().redirect(origins.redirect_policy()).build()?;

    let mut api = ServiceBuilder::new()
        .layer(OAuthLayer::new(tokens, origins).replay(CloneRequest))
        .layer(TimeoutLayer::new(Duration::from_secs(10)))
        .service(http.clone());

    let request = http.get(super::orders()).build()?;
    let response = api.ready().await?.call(request).await?;
    super::answered(response.status());
    Ok(())
}
