use std::time::Duration;

use tower::{Service, ServiceBuilder, ServiceExt, timeout::TimeoutLayer};
use tower_oauth::{
    BoxError, ClientAuth, ClientCredentials, CloneRequest, OAuthLayer, SecretSource, TokenHandle,
};

pub(super) async fn main() -> Result<(), BoxError> {
    let secret = SecretSource::from(super::SECRET);
    let source =
        ClientCredentials::builder(super::token_endpoint(), ClientAuth::basic("basic", secret))
            .scope("read")
            .build()?;

    let tokens = TokenHandle::spawn(source);
    tokens.ready().await?; // optional: fail at start-up, not at the first request

    let mut api = ServiceBuilder::new()
        .layer(OAuthLayer::new(tokens, super::origin().parse()?).replay(CloneRequest))
        .layer(TimeoutLayer::new(Duration::from_secs(10)))
        .service(reqwest::Client::new());

    let request = reqwest::Client::new().get(super::orders()).build()?;
    let response = api.ready().await?.call(request).await?;
    super::answered(response.status());
    Ok(())
}
