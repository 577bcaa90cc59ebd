//! Against `oidc-provider`, an authorization server that is not ours, and an API that checks the
//! tokens it gets.

mod common;

use std::time::Duration;

use common::node::OidcServer;

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn the_servers_count_refuse_die_and_come_back() {
    let mut server = OidcServer::start(HOUR).await;
    let endpoint = server.token_endpoint();
    assert!(server.sign_in("web").await.len() > 20);

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let form = "grant_type=client_credentials&client_id=post&client_secret=secret+of+post";
    let request = client.post(&endpoint).body(form);
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let response = request.send().await.unwrap().bytes().await.unwrap();
    let response: serde_json::Value = serde_json::from_slice(&response).unwrap();
    let requests = server.token_requests().await;
    assert_eq!(requests.len(), 1);
    assert_eq!((requests[0].client.as_str(), requests[0].status), ("post", 200), "{requests:?}");
    assert_eq!(requests[0].grant, "client_credentials");
    assert!(requests[0].at > HOUR);

    let token = response["access_token"].as_str().unwrap();
    let call = async || client.get(server.api()).bearer_auth(token).send().await.unwrap().status();
    assert_eq!(call().await, 200);
    server.refuse_at_api(token).await;
    assert_eq!(call().await, 401);
    assert_eq!(server.api_answers().await, [("200".to_owned(), 1), ("401".to_owned(), 1)].into());

    server.kill().await;
    assert!(client.get(&endpoint).send().await.is_err(), "connections are refused");
    server.restart_on_same_port().await;
    assert_eq!(server.token_endpoint(), endpoint);
    assert!(server.token_requests().await.is_empty(), "the statistics start anew");
}
