//! What APIs answer to a token that they do not take, any more.

use std::time::Duration;

use http::Request;
use tower::{Layer, ServiceExt};
use tower_oauth::{
    CloneRequest, OAuthLayer, TokenHandle,
    testing::{AuthorizationServer, ProtectedApi, Reply},
};

use crate::{answer::reply, tokens::client};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewal {
    /// The answer says that it is the token.
    AtOnce,
    /// It does not say why, or breaks the grammar; a token that is older than ten seconds is worth another one.
    OnceOld,
}

use Renewal::{AtOnce, OnceOld};

const ROWS: &[(&str, Renewal)] = &[
    ("graph-401", AtOnce),
    ("google-401", AtOnce),
    ("github-401", OnceOld),
    ("salesforce-401", OnceOld),
    ("paypal-401", AtOnce),
    ("okta-401", AtOnce),
    ("auth0-401", AtOnce),
    ("keycloak-401", AtOnce),
    ("twitch-401", OnceOld),
    ("api-gateway-401", OnceOld),
    // No commas between the parameters: as one without a reason.
    ("api-gateway-unseparated-401", OnceOld),
];

pub(crate) fn answers() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|(answer, _)| *answer)
}

#[tokio::test(start_paused = true)]
async fn cha_05_cha_06_what_apis_refuse_a_token_with_is_understood() {
    for (answer, renewal) in ROWS {
        for (age, renewed) in
            [(Duration::ZERO, *renewal == AtOnce), (Duration::from_secs(11), true)]
        {
            let issuer = AuthorizationServer::in_process();
            let api = ProtectedApi::in_process(&issuer);
            let tokens = TokenHandle::spawn(client(&issuer).build().unwrap());
            tokens.ready().await.unwrap();
            tokio::time::sleep(age).await;
            api.script(reply(answer));
            let layer = OAuthLayer::new(tokens, api.url().parse().unwrap()).replay(CloneRequest);
            let request = Request::get(format!("{}/orders", api.url())).body(String::new());
            let outcome = layer.layer(api.service()).oneshot(request.unwrap()).await.unwrap();

            let expected = if renewed { (200, 2, 2) } else { (401, 1, 1) };
            let seen =
                (outcome.status().as_u16(), api.request_count(), issuer.token_request_count());
            assert_eq!(seen, expected, "{answer}, {age:?} old");
        }
    }
}

/// Slack's Web API answers 200 with `"ok": false`; that is its caller's to read.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_no_401_is_left_alone() {
    let issuer = AuthorizationServer::in_process();
    let api = ProtectedApi::in_process(&issuer);
    let tokens = TokenHandle::spawn(client(&issuer).build().unwrap());
    api.always(Reply::json(200, serde_json::json!({ "ok": false, "error": "token_expired" })));
    let layer = OAuthLayer::new(tokens, api.url().parse().unwrap()).replay(CloneRequest);
    let request = Request::get(api.url()).body(String::new()).unwrap();
    let outcome = layer.layer(api.service()).oneshot(request).await.unwrap();
    assert_eq!((outcome.status().as_u16(), api.request_count()), (200, 1));
}
