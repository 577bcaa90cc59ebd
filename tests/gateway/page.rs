//! The status page, in a browser.

use std::{process::Stdio, time::Duration};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};
use tower_oauth::testing::{AuthorizationServer, ProtectedApi};

use crate::harness::{Directory, Gateway, upstream};

/// A page that is open, and never loaded anew.
struct Page {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Page {
    fn open(gateway: &Gateway) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/status_page.mjs");
        let mut child = Command::new("node")
            .arg(script)
            .arg(&gateway.url)
            .args(std::env::var_os("STATUS_PAGE_SCREENSHOTS"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node can be started");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, lines }
    }

    /// Waits until the only upstream's card is like this, and returns all that is on the page.
    async fn shows(&mut self, what: &str, like: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let found = timeout(Duration::from_secs(40), async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                last = serde_json::from_str(&line).unwrap();
                assert!(last.get("error").is_none(), "{last}");
                assert_eq!(last["overflow"], false, "wider than a phone: {last}");
                if like(&last["upstreams"][0]) {
                    return;
                }
            }
            panic!("the browser has ended: run ./tests/run, which installs it; {last}");
        });
        found.await.unwrap_or_else(|_| panic!("{what} is not on the page, which shows {last}"));
        last
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_shows_a_renewal_a_refusal_an_outage_and_its_end_as_they_happen() {
    let issuer = AuthorizationServer::start().await.unwrap();
    issuer.client("gateway", "s3cr3t").lifetime(Duration::from_secs(8));
    let api = ProtectedApi::start(&issuer).await.unwrap();
    let directory = Directory::new();
    let text = upstream("orders", api.url(), &issuer.token_endpoint(), &directory.secret());
    // Renewed early: time enough to see that it fails while the token is still served.
    let text = format!("listen = '127.0.0.1:0'\n{text}handle = {{ margin = [0.5, 0.5] }}\n");
    let gateway = Gateway::configured(&text, directory).await;
    let call = || reqwest::get(gateway.at("/orders"));
    call().await.unwrap();

    let mut page = Page::open(&gateway);
    let first = page.shows("a token", |card| card["state"] == "good").await;
    let epoch = |page: &Value| page["upstreams"][0]["epoch"].as_u64().unwrap();
    assert_eq!(first["headline"], "every API has its token");
    assert_eq!(first["upstreams"][0]["name"], "orders");

    let before = epoch(&first);
    let renewed = page
        .shows("a renewal", |card| card["epoch"].as_u64() > Some(before) && card["state"] == "good")
        .await;
    assert!(renewed["upstreams"][0]["lives"].as_u64() >= Some(2), "{renewed}");

    issuer.revoke_access_tokens();
    assert_eq!(call().await.unwrap().status(), 200);
    page.shows("a refusal", |card| card["refused"] == 1).await;

    issuer.stop().await;
    let failing = page.shows("a failed renewal", |card| card["state"] == "notice").await;
    assert_eq!(failing["headline"], "tokens are served, but cannot be renewed");
    assert!(failing["upstreams"][0]["trouble"].as_str().unwrap().contains("failed in a row"));
    let out = page.shows("an outage", |card| card["state"] == "bad").await;
    assert_eq!(out["headline"], "1 of 1 without a token");
    assert!(out["upstreams"][0]["marks"].as_u64() >= Some(1), "{out}");

    issuer.resume().unwrap();
    let back = page.shows("the end of the outage", |card| card["state"] == "good").await;
    assert!(epoch(&back) > epoch(&out));
    assert_eq!(back["upstreams"][0]["failures"], 0);
    assert!(back["upstreams"][0]["gaps"].as_u64() >= Some(1), "{back}");
    assert_eq!(back["upstreams"][0]["trouble"], "");
}
