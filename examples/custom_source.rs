//! Tokens from a place of your own: one `async fn`. And, beside requests, a token for whatever is
//! not HTTP.
//!
//! ```sh
//! cargo run --example custom_source
//! ```
#![allow(clippy::print_stdout, reason = "an example prints")]

use std::{path::PathBuf, time::Duration};

use tower_oauth::{Chain, Error, FetchContext, TokenHandle, TokenSet, TokenSource, source_fn};

/// A token that a sidecar writes to a file, with its lifetime in seconds before it.
struct Sidecar {
    path: PathBuf,
}

impl TokenSource for Sidecar {
    async fn fetch(&self, _: FetchContext) -> Result<TokenSet, Error> {
        let text = tokio::fs::read_to_string(&self.path).await.map_err(Error::other)?;
        let (lifetime, token) = text.trim().split_once(' ').ok_or_else(|| {
            Error::other(format!("{} is not 'seconds token'", self.path.display()))
        })?;
        let lifetime: u64 = lifetime.parse().map_err(Error::other)?;
        println!("the sidecar gives a token for {lifetime} s");
        Ok(TokenSet::bearer(token)?.with_lifetime(Duration::from_secs(lifetime)))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("tower-oauth-sidecar-{}", std::process::id()));

    // The file if it is there, and else a token from somewhere else.
    let fallback = source_fn(|_| async {
        println!("no file, so the fallback gives a token");
        Ok(TokenSet::bearer("from-the-fallback")?.with_lifetime(Duration::from_secs(60)))
    });
    let tokens = TokenHandle::spawn(Chain::new(Sidecar { path: path.clone() }).or(fallback));
    tokens.ready().await?;

    // Nothing has to be told that the file is there; `refresh()` only saves us the wait.
    tokio::fs::write(&path, "3600 from-the-sidecar").await?;
    tokens.refresh().await?;
    if let Some(at) = tokens.status().next_attempt() {
        println!("it is renewed in {} s", (at - tokio::time::Instant::now()).as_secs());
    }

    // For a WebSocket handshake, Kafka, a database: ask again each time.
    let token = tokens.token().await?;
    println!("a header for something else: {:?}", token.header_value());

    tokens.shutdown().await;
    tokio::fs::remove_file(&path).await?;
    Ok(())
}
