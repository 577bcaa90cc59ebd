//! Tokens from a place of your own: one `async fn`. And, beside requests, a token for whatever is
//! not HTTP.
//!
//! ```sh
//! cargo run --example custom_source
//! ```

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
        let lifetime = lifetime.parse().map_err(Error::other)?;
        Ok(TokenSet::bearer(token)?.with_lifetime(Duration::from_secs(lifetime)))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::temp_dir().join(format!("tower-oauth-sidecar-{}", std::process::id()));

    // The file if it is there, and else a token from somewhere else.
    let fallback = source_fn(|_| async {
        Ok(TokenSet::bearer("from-the-fallback")?.with_lifetime(Duration::from_secs(60)))
    });
    let tokens = TokenHandle::spawn(Chain::new(Sidecar { path: path.clone() }).or(fallback));
    println!("without the file: {}", tokens.token().await?.access_token().expose());

    // Nothing has to be told that the file is there; `refresh()` only saves us the wait.
    tokio::fs::write(&path, "3600 from-the-sidecar").await?;
    let token = tokens.refresh().await?;
    println!("with the file:    {}", token.access_token().expose());
    if let Some(at) = tokens.status().next_attempt() {
        println!("the next renewal: in {} s", (at - tokio::time::Instant::now()).as_secs());
    }

    tokens.shutdown().await;
    tokio::fs::remove_file(&path).await?;
    Ok(())
}
