//! The process under test: a client that does what it is told on its stdin.

use std::{
    env,
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::Instant,
};
use tower::{Layer, ServiceExt};
use tower_oauth::{
    ClientAuth, ClientCredentials, CloneRequest, OAuthLayer, Origins, TokenHandle,
    time::{Clock, SystemClock},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is run by other tests, in processes of their own"]
async fn child() {
    let (Ok(endpoint), Ok(api)) = (env::var("TEST_ENDPOINT"), env::var("TEST_API")) else { return };
    let start = Instant::now();
    let source = ClientCredentials::builder(endpoint, ClientAuth::basic("child", "s3cr3t"));
    let tokens = TokenHandle::spawn(source.build().unwrap());
    let origins: Origins = api.parse().unwrap();
    let client = reqwest::Client::builder().no_proxy().redirect(origins.redirect_policy());
    let client = OAuthLayer::new(tokens.clone(), origins)
        .replay(CloneRequest)
        .layer(client.build().unwrap());
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await.unwrap() {
        match &*line {
            "ready" => say(&format!("{:?}", tokens.ready().await)),
            "get" => {
                let request = reqwest::Request::new(http::Method::GET, api.parse().unwrap());
                let answer = client.clone().oneshot(request).await;
                say(&answer.map_or_else(|error| error.to_string(), |a| a.status().to_string()));
            }
            "clocks" => say(&clocks(start)),
            other => panic!("{other:?} is no command"),
        }
    }
}

/// Boot time, wall time, coarse wall time, and time since the start: all in milliseconds.
fn clocks(start: Instant) -> String {
    let clock = SystemClock::new();
    let (now, coarse) = (clock.now(), clock.coarse_wall());
    let since_1970 = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let times = [now.boot, since_1970(now.wall), since_1970(coarse), start.elapsed()];
    times.map(|time: Duration| time.as_millis().to_string()).join(" ")
}

/// Tells the parent.
fn say(line: &str) {
    println!("> {line}");
}
