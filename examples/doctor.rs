//! One call to an API, with everything that it takes to be seen: the authorization server's exchange
//! and the API's, without secrets, and what to do about it when it fails.
//!
//! ```sh
//! cargo run --features config --example doctor -- orders.toml https://api.example/orders
//! cargo run --features config --example doctor -- clients.yaml https://api.example/orders NAME
//! ```
//!
//! The file is a configuration as `tower_oauth::config` reads it, or one of several clients, of which
//! the name says which. Without arguments it shows a call that works and one with a wrong secret, at
//! servers of its own.
#![allow(clippy::print_stdout, reason = "an example prints")]

#[path = "doctor/advice.rs"]
mod advice;
#[path = "doctor/print.rs"]
mod print;

use std::{path::Path, process::ExitCode, sync::Arc};

use bytes::Bytes;
use http_body_util::Full;
use serde::de::DeserializeOwned;
use tower::{ServiceBuilder, ServiceExt, service_fn};
use tower_oauth::{
    BoxError, Error, Transport,
    config::{ClientConfig, Clients, OAuthConfig, SecretRef, read},
    testing::{AuthorizationServer, ProtectedApi},
};

use print::Printer;

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<bool, BoxError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &*arguments {
        [] => demonstrate().await,
        [file, url] => examine(&load(Path::new(file), None)?, url).await,
        [file, url, name] => examine(&load(Path::new(file), Some(name))?, url).await,
        _ => Err("usage: doctor [FILE URL [NAME]]".into()),
    }
}

/// Reads a configuration by the extension of its file's name.
fn load(file: &Path, name: Option<&str>) -> Result<OAuthConfig, BoxError> {
    let text =
        std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let Some(name) = name else { return parse(file, &text) };
    let clients: Clients = parse(file, &text)?;
    clients
        .get(name)
        .cloned()
        .ok_or_else(|| format!("{} has no client {name:?}", file.display()).into())
}

fn parse<T: DeserializeOwned>(file: &Path, text: &str) -> Result<T, BoxError> {
    Ok(match file.extension().and_then(|extension| extension.to_str()) {
        Some("json") => read(&mut serde_json::Deserializer::from_str(text))?,
        Some("yaml" | "yml") => read(yaml_serde::Deserializer::from_str(text))?,
        _ => read(toml::Deserializer::parse(text).map_err(|error| first_line(&error))?)?,
    })
}

/// Not the line that TOML quotes: there may be a secret in it.
fn first_line(error: &toml::de::Error) -> String {
    error.to_string().lines().next().unwrap_or("it is not TOML").to_owned()
}

/// Makes one call and says what is wrong with it. `true` if nothing is.
async fn examine(config: &OAuthConfig, url: &str) -> Result<bool, BoxError> {
    let printer = Arc::new(Printer::default());
    let has_certificate = config.client.as_ref().is_some_and(|client| client.certificate.is_some());
    let mut builder = config.builder();
    if has_certificate {
        println!("(The authorization server's exchange is not shown: a certificate goes with it.)");
    } else {
        builder = builder.transport(recording(printer.clone())?);
    }
    let client = match builder.build() {
        Ok(client) => client,
        Err(error) => {
            println!("The configuration cannot work:\n  {error}");
            return Ok(false);
        }
    };

    if let Err(error) = client.tokens().ready().await {
        advice::about_token(&error);
        return Ok(false);
    }
    println!("\nThe token:");
    print::token(&client.tokens().token().await?);

    let api = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    let calls = service_fn(move |request: reqwest::Request| {
        let (api, printer) = (api.clone(), printer.clone());
        async move {
            printer.request("the API", request.method(), request.url().as_str(), request.headers());
            printer.body(request.headers(), request.body().and_then(|body| body.as_bytes()));
            let response = api.execute(request).await?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = response.bytes().await?;
            printer.response(status, &headers, &body);
            let mut answer = http::Response::new(body);
            (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
            Ok::<_, reqwest::Error>(reqwest::Response::from(answer))
        }
    });
    let service = ServiceBuilder::new().layer(client.layer()).service(calls);
    let request = reqwest::Client::new().get(url).build()?;
    let carries = service.oneshot(request).await;
    let outcome = match carries {
        Ok(response) => advice::about_answer(&response),
        Err(error) => {
            match Error::find(&*error) {
                Some(ours) => advice::about_token(ours),
                None => advice::about_transport(&*error),
            }
            false
        }
    };
    client.tokens().shutdown().await;
    Ok(outcome)
}

/// The way to the authorization server, with all that goes over it printed.
fn recording(printer: Arc<Printer>) -> Result<Transport, BoxError> {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    Ok(Transport::new(service_fn(move |request: http::Request<Bytes>| {
        let (client, printer) = (client.clone(), printer.clone());
        async move {
            let url = request.uri().to_string();
            printer.request("the authorization server", request.method(), &url, request.headers());
            printer.body(request.headers(), Some(request.body()));
            let response = client.execute(reqwest::Request::try_from(request)?).await?;
            let (status, headers) = (response.status(), response.headers().clone());
            let body = response.bytes().await?;
            printer.response(status, &headers, &body);
            let mut answer = http::Response::new(Full::new(body));
            (*answer.status_mut(), *answer.headers_mut()) = (status, headers);
            Ok::<_, reqwest::Error>(answer)
        }
    })))
}

/// A call that works and one that does not, at servers of our own.
async fn demonstrate() -> Result<bool, BoxError> {
    let server = AuthorizationServer::start().await?;
    server.client("orders", "a secret");
    let api = ProtectedApi::start(&server).await?;
    let config = |secret: &str| {
        let mut config = OAuthConfig::default();
        config.token_endpoint = Some(server.token_endpoint());
        config.origins = vec![api.url().to_owned()];
        config.scope = vec!["orders.read".to_owned()];
        let secret = SecretRef::DangerLiteral(secret.into());
        config.client = Some(ClientConfig::new("orders").secret(secret));
        config
    };
    println!("==== A call that works\n");
    let works = examine(&config("a secret"), &format!("{}/orders", api.url())).await?;
    println!("\n==== The same with a wrong secret\n");
    let fails = !examine(&config("another one"), &format!("{}/orders", api.url())).await?;
    Ok(works && fails)
}
