//! No secret leaves the gateway: not on its page, among its metrics or in its answers, whatever its
//! authorization server repeats of them.

#[path = "../canary/scan.rs"]
mod scan;

use std::time::Duration;

use serde_json::json;
use tokio::time::{sleep, timeout};
use tower_oauth::testing::{AuthorizationServer, ProtectedApi, Reply};

use self::scan::{Canary, Haystack};
use crate::harness::{Directory, Gateway, upstream};

const CLIENT_SECRET: &str = "gS4-Hw8_Qz2.Mv6~Tk9Bn3Xr7Jc5Lp1D";
const REFRESH_TOKEN: &str = "gR7.Vn2-Xk9_Bt4~Wc6Hq8Zm3Fj5Yd1S";

/// All that the gateway says of itself, and to the caller of an API.
async fn read(gateway: &Gateway) -> String {
    let mut text = String::new();
    for path in ["/status", "/metrics", "/readyz", "/healthz", "/orders"] {
        let response = reqwest::get(gateway.at(path)).await.unwrap();
        text += &format!("{:?}", response.headers());
        text += &response.text().await.unwrap();
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_01_f56_the_gateway_shows_no_secret_to_anybody() {
    let issuer = AuthorizationServer::start().await.unwrap();
    issuer.client("gateway", CLIENT_SECRET).lifetime(Duration::from_secs(2));
    let api = ProtectedApi::start(&issuer).await.unwrap();
    let directory = Directory::new();
    let secret = directory.write("secret", CLIENT_SECRET);
    let text = upstream("orders", api.url(), &issuer.token_endpoint(), &secret);
    let gateway = Gateway::configured(&format!("listen = '127.0.0.1:0'\n{text}"), directory).await;

    // A token, a refusal and a renewal; what the server answers holds a refresh token as well.
    issuer.always(Reply::honest().patch(json!({ "refresh_token": REFRESH_TOKEN })));
    let mut shown = read(&gateway).await;
    issuer.revoke_access_tokens();
    shown += &read(&gateway).await;
    // Then nothing but refusals that repeat what was sent, until there is no token.
    let basic = issuer.token_requests()[0].header("authorization").unwrap().to_owned();
    let repeated = json!({
        "error": "invalid_client",
        "error_description": format!("not {CLIENT_SECRET}, {basic}"),
        "error_uri": format!("https://as.example/?secret={CLIENT_SECRET}"),
        "refresh_token": REFRESH_TOKEN,
    });
    issuer.always(Reply::json(401, repeated));
    let ended = timeout(Duration::from_secs(20), async {
        loop {
            let text = read(&gateway).await;
            shown += &text;
            if text.contains("no token for orders") && text.contains("invalid_client") {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    });
    ended.await.expect("the gateway says what the server answers");

    let mut canaries = vec![
        Canary::new("client secret", CLIENT_SECRET),
        Canary::new("Basic header", basic),
        Canary::new("refresh token", REFRESH_TOKEN),
    ];
    let requests = api.requests();
    canaries.extend(requests.iter().map(|request| {
        Canary::new("access token", request.bearer().expect("each request has a token"))
    }));
    assert!(canaries.len() > 5, "{}", canaries.len());
    let haystack = Haystack::new(&shown);
    let found: Vec<_> = canaries.iter().flat_map(|canary| haystack.find(canary)).collect();
    assert!(found.is_empty(), "{found:#?}");
}
