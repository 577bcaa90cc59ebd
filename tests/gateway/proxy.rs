//! What passes, what does not, and what the gateway says of itself.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tower_oauth::testing::{AuthorizationServer, ProtectedApi, Reply};

use crate::harness::{Directory, Gateway, upstream};

async fn servers() -> (AuthorizationServer, ProtectedApi) {
    let issuer = AuthorizationServer::start().await.unwrap();
    issuer.client("gateway", "s3cr3t");
    let api = ProtectedApi::start(&issuer).await.unwrap();
    (issuer, api)
}

async fn get(url: &str) -> (u16, String) {
    let response = reqwest::get(url).await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn ready(gateway: &Gateway) {
    let start = Instant::now();
    while get(&gateway.at("/readyz")).await.0 != 200 {
        assert!(start.elapsed() < Duration::from_secs(10), "it is not ready");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn hop_by_hop_fields_end_at_the_gateway_and_others_pass() {
    let (issuer, api) = servers().await;
    let gateway = Gateway::start(&issuer, &[("orders", api.url())]).await;
    api.script(
        Reply::honest()
            .header("connection", "x-hop")
            .header("x-hop", "1")
            .header("keep-alive", "timeout=5")
            .header("x-end", "2"),
    );
    let response = reqwest::Client::new()
        .get(gateway.at("/orders/a%20b?c=d&e"))
        .header("connection", "x-private, close")
        .header("x-private", "1")
        .header("proxy-authorization", "Basic c2VjcmV0")
        .header("te", "trailers")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-mine", "3")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    let answered = response.headers();
    assert!(!answered.contains_key("x-hop") && !answered.contains_key("keep-alive"));
    assert_eq!(answered["x-end"], "2");
    assert_eq!(answered["via"], "1.1 tower-oauth-gateway");

    let seen = &api.requests()[0];
    assert_eq!(seen.target, "/a%20b?c=d&e");
    for dropped in ["x-private", "proxy-authorization", "te", "connection"] {
        assert!(!seen.headers.contains_key(dropped), "{dropped}");
    }
    assert_eq!(seen.headers["x-mine"], "3");
    assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(seen.headers["x-forwarded-host"], gateway.url.trim_start_matches("http://"));
    assert_eq!(seen.headers["host"], api.url().trim_start_matches("http://"));
    assert_eq!(seen.headers.get_all("via").iter().count(), 1);
}

#[tokio::test]
async fn a_path_leads_to_its_api_and_never_out_of_it() {
    let (issuer, one) = servers().await;
    let two = ProtectedApi::start(&issuer).await.unwrap();
    let directory = Directory::new();
    let secret = directory.secret();
    let token_endpoint = issuer.token_endpoint();
    let text = "listen = '127.0.0.1:0'\n".to_owned()
        + &upstream("one", &format!("{}/v1", one.url()), &token_endpoint, &secret)
        + &upstream("two", two.url(), &token_endpoint, &secret).replacen(
            "url =",
            "path = '/one/two'\nurl =",
            1,
        );
    let gateway = Gateway::configured(&text, directory).await;
    for (path, status) in [
        ("/one", 200),
        ("/one/x", 200),
        ("/one/two", 200),
        ("/one/two/y", 200),
        ("/one/twofold", 200),
        ("/onetwo", 404),
        ("/", 404),
    ] {
        assert_eq!(get(&gateway.at(path)).await.0, status, "{path}");
    }
    let targets = |api: &ProtectedApi| -> Vec<String> {
        api.requests().iter().map(|request| request.target.clone()).collect()
    };
    assert_eq!(targets(&one), ["/v1", "/v1/x", "/v1/twofold"]);
    assert_eq!(targets(&two), ["/", "/y"]);

    // A client of its own: others take the dots out of a path themselves.
    for path in ["/one/../secret", "/one/%2e%2E/secret", "/one/a/..%2fsecret", "/one/..%5csecret"] {
        let address = gateway.url.trim_start_matches("http://");
        let mut tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut tcp, request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut tcp, &mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
    }
    assert_eq!(one.request_count(), 3);
}

#[tokio::test]
async fn it_is_ready_once_every_token_is_and_alive_before() {
    let (issuer, api) = servers().await;
    issuer.stop().await;
    let gateway = Gateway::start(&issuer, &[("orders", api.url())]).await;
    assert_eq!(get(&gateway.at("/healthz")).await, (200, "ok\n".to_owned()));
    assert_eq!(get(&gateway.at("/readyz")).await, (503, "no token for orders\n".to_owned()));
    issuer.resume().unwrap();
    ready(&gateway).await;
}

#[tokio::test]
async fn without_a_token_the_answer_says_why_and_when_to_come_again() {
    let (issuer, api) = servers().await;
    issuer.client("gateway", "another");
    let gateway = Gateway::start(&issuer, &[("orders", api.url())]).await;
    let response = reqwest::get(gateway.at("/orders")).await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    assert!(response.headers().contains_key("retry-after"));
    let text = response.text().await.unwrap();
    assert!(text.contains("invalid_client") && !text.contains("s3cr3t"), "{text}");
    assert_eq!(api.request_count(), 0);
    assert_eq!(get(&gateway.at("/healthz")).await.0, 200);
    gateway.set_secret("another");
}

#[tokio::test]
async fn a_revoked_token_is_replaced_and_the_request_sent_again_and_measured() {
    let (issuer, api) = servers().await;
    let gateway = Gateway::start(&issuer, &[("orders", api.url())]).await;
    assert_eq!(get(&gateway.at("/orders")).await.0, 200);
    issuer.revoke_access_tokens();
    let http = reqwest::Client::new();
    let response = http.post(gateway.at("/orders")).body("one pizza").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(&api.requests()[2].body[..], b"one pizza");
    let (_, text) = get(&gateway.at("/metrics")).await;
    for line in [
        "tower_oauth_fetches_total{client=\"orders\",reason=\"rejected\",outcome=\"success\"} 1",
        "tower_oauth_replays_total{client=\"orders\",http_response_status_code=\"200\"} 1",
        "tower_oauth_token_ready{client=\"orders\"} 1",
        "http_server_request_duration_seconds_count{client=\"orders\",http_response_status_code=\"200\"} 2",
        "# TYPE tower_oauth_fetch_duration_seconds histogram",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    for request in api.requests() {
        assert!(!text.contains(request.bearer().unwrap()));
    }
}

#[tokio::test]
async fn it_ends_when_told_to_after_the_requests_that_are_under_way() {
    let (issuer, api) = servers().await;
    let mut gateway = Gateway::start(&issuer, &[("orders", api.url())]).await;
    ready(&gateway).await;
    api.delay(Duration::from_millis(700));
    let url = gateway.at("/orders");
    let slow = tokio::spawn(async move { get(&url).await });
    while api.request_count() == 0 && !slow.is_finished() {
        sleep(Duration::from_millis(10)).await;
    }
    gateway.terminate();
    assert_eq!(slow.await.unwrap().0, 200);
    let status = timeout(Duration::from_secs(10), gateway.child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}

/// A dashboard that asks for what is not there shows nothing, and nobody is told.
#[tokio::test]
async fn the_dashboard_asks_only_for_metrics_that_there_are() {
    let (issuer, api) = servers().await;
    issuer.lifetime(Duration::from_secs(2));
    let gateway = Gateway::start(&issuer, &[("orders", api.url())]).await;
    assert_eq!(get(&gateway.at("/orders")).await.0, 200);
    issuer.revoke_access_tokens();
    assert_eq!(get(&gateway.at("/orders")).await.0, 200);
    issuer.stop().await;
    let start = Instant::now();
    let mut text = String::new();
    while !text.contains("tower_oauth_expiries_total") {
        assert!(start.elapsed() < Duration::from_secs(20), "{text}");
        sleep(Duration::from_millis(50)).await;
        text = get(&gateway.at("/metrics")).await.1;
    }
    let there: Vec<_> = text.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();

    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/gateway/grafana.json");
    let dashboard: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut asked = 0;
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()) {
        let query = target["expr"].as_str().unwrap();
        let words = query.split(|c: char| !c.is_alphanumeric() && c != '_');
        for name in words.filter(|w| w.starts_with("tower_oauth_") || w.starts_with("http_server"))
        {
            asked += 1;
            assert!(there.contains(&name), "{name} is not among {there:?}");
        }
    }
    assert!(asked > 12, "{asked}");
}
