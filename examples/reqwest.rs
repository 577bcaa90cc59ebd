//! A reqwest client whose every request carries a token.
//!
//! ```sh
//! cargo run --example reqwest
//! ```
#![allow(clippy::print_stdout, reason = "an example prints")]

use tower::{Service, ServiceBuilder, ServiceExt};
use tower_oauth::{
    BoxError, ClientAuth, ClientCredentials, CloneRequest, Error, OAuthLayer, Origins, TokenHandle,
    testing::{AuthorizationServer, ProtectedApi},
};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let issuer = AuthorizationServer::start().await?;
    let api = ProtectedApi::start(&issuer).await?;

    let auth = ClientAuth::basic("orders", "a secret");
    let source = ClientCredentials::builder(issuer.token_endpoint(), auth)
        .scope("orders.read")
        .scope("orders.write")
        .build()?;
    let tokens = TokenHandle::spawn(source);
    // Optional: fails here, at start-up, if the credentials are wrong.
    tokens.ready().await?;

    // The client follows redirects to the allowed origins only: reqwest's default policy would take
    // the token to others.
    let origins: Origins = api.url().parse()?;
    let http = reqwest::Client::builder().redirect(origins.redirect_policy()).build()?;
    let mut client = ServiceBuilder::new()
        .layer(OAuthLayer::new(tokens, origins).replay(CloneRequest))
        .service(http.clone());

    // reqwest builds the request; the service sends it.
    let request = http.post(format!("{}/orders", api.url())).body("one pizza").build()?;
    let response = client.ready().await?.call(request).await?;
    println!("{}: {}", response.status(), response.text().await?);

    // Errors of the layer and of reqwest come out of the same call.
    let request = http.get("http://127.0.0.1:1/nobody-listens-here").build()?;
    if let Err(error) = client.ready().await?.call(request).await {
        match Error::find(&*error) {
            Some(ours) => println!("no token: {ours}"),
            None => println!("not a token problem: {error}"),
        }
    }
    Ok(())
}
