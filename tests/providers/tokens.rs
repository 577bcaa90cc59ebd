//! What token endpoints answer.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use serde_json::json;
use tower_oauth::{
    ClientAuth, ClientCredentials, Error, ErrorKind, FetchContext, RefreshToken, Secret,
    TokenExchange, TokenSet, TokenSource, Transport,
    grant::{ClientCredentialsOptions, GrantBuilder, RefreshTokenOptions},
    testing::{AuthorizationServer, Reply},
};

use crate::answer::reply;

/// An answer and what is expected of it.
struct Row {
    answer: &'static str,
    grant: Grant,
    expected: Expected,
}

#[derive(Debug, Clone, Copy)]
enum Grant {
    /// Client credentials, with the scopes `read` and `write`.
    Client,
    /// A refresh token, `old`.
    Refresh,
    /// Token exchange.
    Exchange,
    /// Client credentials at Slack, for its bot.
    SlackBot,
    /// A refresh token at Slack, for a user: the token stands within another object.
    SlackUser,
}

enum Expected {
    Token {
        token: &'static str,
        lifetime: Option<u64>,
        refresh_in: Option<u64>,
        scopes: Option<&'static str>,
        refresh_token: Option<&'static str>,
        /// Another member that has to be there.
        member: Option<&'static str>,
    },
    Error {
        kind: ErrorKind,
        status: u16,
        code: Option<&'static str>,
        /// A part of what is shown.
        says: &'static str,
        retry_after: Option<u64>,
    },
}

const fn token(token: &'static str, lifetime: Option<u64>) -> Expected {
    let (refresh_in, scopes, refresh_token, member) = (None, Some("read write"), None, None);
    Expected::Token { token, lifetime, refresh_in, scopes, refresh_token, member }
}

const fn error(
    kind: ErrorKind,
    status: u16,
    code: Option<&'static str>,
    says: &'static str,
) -> Expected {
    Expected::Error { kind, status, code, says, retry_after: None }
}

impl Expected {
    const fn scopes(mut self, expected: Option<&'static str>) -> Self {
        if let Self::Token { scopes, .. } = &mut self {
            *scopes = expected;
        }
        self
    }

    const fn refresh_in(mut self, seconds: u64) -> Self {
        if let Self::Token { refresh_in, .. } = &mut self {
            *refresh_in = Some(seconds);
        }
        self
    }

    const fn refresh_token(mut self, expected: &'static str) -> Self {
        if let Self::Token { refresh_token, .. } = &mut self {
            *refresh_token = Some(expected);
        }
        self
    }

    const fn member(mut self, expected: &'static str) -> Self {
        if let Self::Token { member, .. } = &mut self {
            *member = Some(expected);
        }
        self
    }

    const fn retry_after(mut self, seconds: u64) -> Self {
        if let Self::Error { retry_after, .. } = &mut self {
            *retry_after = Some(seconds);
        }
        self
    }
}

const fn row(answer: &'static str, grant: Grant, expected: Expected) -> Row {
    Row { answer, grant, expected }
}

use ErrorKind::{Denied, InvalidClient, InvalidGrant, InvalidRequest, Server, Throttled};
use Grant::{Client, Exchange, Refresh, SlackBot, SlackUser};

const ROWS: &[Row] = &[
    // Entra v1 writes numbers as text; the absolute times are long past, and lose to expires_in.
    row(
        "entra-v1-token",
        Client,
        token("entra-v1.made-up", Some(3599)).member("resource"),
    ),
    row("entra-v2-token", Client, token("entra-v2.made-up", Some(86399)).refresh_in(43199)),
    row(
        "entra-assertion-expired",
        Client,
        error(InvalidClient, 401, Some("invalid_client"), r"valid time range.\u{d}\u{a}Trace ID"),
    ),
    row(
        "entra-resource-not-found",
        Client,
        error(Denied, 400, Some("invalid_resource"), "AADSTS500011"),
    ),
    row(
        "entra-throttled",
        Client,
        error(Throttled, 429, Some("temporarily_unavailable"), "AADSTS90056").retry_after(30),
    ),
    // Google pads tokens with dots.
    row(
        "google-token",
        Client,
        token("ya29.made-up..................................", Some(3599)),
    ),
    row("google-error", Client, error(InvalidGrant, 400, Some("invalid_grant"), "short-lived")),
    row(
        "google-object-error",
        Client,
        error(InvalidRequest, 400, Some("INVALID_ARGUMENT"), "contains an invalid argument"),
    ),
    row("google-unavailable", Client, error(Server, 503, None, "text/html")),
    row("google-sts-token", Exchange, token("ya29.d.made-up", Some(3599))),
    row("google-sts-error", Exchange, error(InvalidRequest, 400, Some("invalid_target"), "pool")),
    // GitHub answers with a form unless it is asked for JSON; scopes have commas between them.
    row("github-token", Client, token("gho_made0up", None).scopes(Some("gist repo"))),
    row(
        "github-error",
        Client,
        error(Denied, 200, Some("bad_verification_code"), "incorrect or expired"),
    ),
    row(
        "github-form-error",
        Client,
        error(InvalidClient, 200, Some("incorrect_client_credentials"), "are incorrect"),
    ),
    row("slack-refused", Client, error(Denied, 200, Some("invalid_code"), "refuses")),
    row(
        "slack-bot-token",
        SlackBot,
        token("xoxe.xoxb-made-up", Some(43200))
            .scopes(Some("commands incoming-webhook"))
            .member("team"),
    ),
    // Nothing around the object counts.
    row(
        "slack-user-token",
        SlackUser,
        token("xoxe.xoxp-made-up", Some(43100))
            .scopes(Some("chat:write search:read"))
            .refresh_token("xoxe-user-made-up")
            .member("id"),
    ),
    // No lifetime; a character that RFC 6750 does not have.
    row(
        "salesforce-token",
        Client,
        token("00D000000000001!AQ.made_up", None).scopes(Some("api")).member("instance_url"),
    ),
    row(
        "salesforce-error",
        Client,
        error(InvalidClient, 400, Some("invalid_client_id"), "client identifier invalid"),
    ),
    row(
        "paypal-token",
        Client,
        token("A21AAmade-up", Some(31668))
            .scopes(Some(
                "https://uri.paypal.com/services/invoicing https://uri.paypal.com/services/webhooks",
            ))
            .member("app_id"),
    ),
    row("paypal-text-lifetime", Client, token("A21AAmade-up", Some(32000)).member("nonce")),
    row("paypal-error", Client, error(InvalidClient, 401, Some("invalid_client"), "failed")),
    row("okta-token", Client, token("okta.made.up", Some(3600)).scopes(Some("orders.read"))),
    // The form that the rest of its API has.
    row(
        "okta-error",
        Client,
        error(InvalidClient, 401, Some("invalid_client"), "Invalid value for 'client_id'"),
    ),
    row("okta-throttled", Client, error(Throttled, 429, Some("E0000047"), "exceeded rate limit")),
    row("auth0-token", Client, token("auth0.made.up", Some(86400)).scopes(Some("read:orders"))),
    row(
        "auth0-wrong-secret",
        Client,
        error(InvalidClient, 401, Some("access_denied"), "Unauthorized"),
    ),
    row("auth0-no-grant", Client, error(Denied, 403, Some("access_denied"), "client-grant")),
    row(
        "keycloak-token",
        Client,
        token("keycloak.made.up", Some(300))
            .scopes(Some("email profile"))
            .member("not-before-policy"),
    ),
    // The identity token is nobody's access token.
    row(
        "keycloak-refreshed",
        Refresh,
        token("keycloak.made.up", Some(300))
            .scopes(Some("openid profile"))
            .refresh_token("keycloak.refresh.made-up")
            .member("refresh_expires_in"),
    ),
    // null is absent, and the refresh token stays.
    row(
        "keycloak-no-lifetime",
        Refresh,
        token("keycloak.made.up", None).scopes(None).refresh_token("old"),
    ),
    row("keycloak-zero-lifetime", Client, token("keycloak.made.up", None)),
    row(
        "keycloak-error",
        Client,
        error(InvalidClient, 401, Some("unauthorized_client"), "Invalid client"),
    ),
    row(
        "keycloak-session-over",
        Refresh,
        error(InvalidGrant, 400, Some("invalid_grant"), "Token is not active"),
    ),
    row(
        "keycloak-no-realm",
        Client,
        error(Denied, 404, Some("Realm does not exist"), "status 404"),
    ),
    row(
        "twitch-token",
        Client,
        token("twitch0made0up", Some(14487)).scopes(Some("openid user:read:email")),
    ),
    row("twitch-error", Client, error(Denied, 403, None, "invalid client secret")),
    row("cognito-token", Client, token("cognito.made.up", Some(3600))),
    row(
        "cognito-error",
        Client,
        error(InvalidClient, 400, Some("invalid_client"), "client_secret_mismatch"),
    ),
    row("cognito-wrong-path", Client, error(InvalidRequest, 405, None, "check its URL")),
];

pub(crate) fn answers() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.answer)
}

#[tokio::test(start_paused = true)]
async fn trs_14_err_03_what_providers_answer_is_understood() {
    for row in ROWS {
        let server = AuthorizationServer::in_process();
        server.always(reply(row.answer));
        let outcome = fetch(row.grant, &server).await;
        assert_eq!(server.token_request_count(), 1, "{}", row.answer);
        check(row.answer, &row.expected, outcome);
    }
}

/// Without being told, neither Slack's types nor its nested object are taken.
#[tokio::test(start_paused = true)]
async fn trs_12_trs_02_what_was_not_configured_is_not_guessed() {
    for (answer, expected) in [
        ("slack-bot-token", ErrorKind::UnusableToken),
        ("slack-user-token", ErrorKind::MalformedResponse),
    ] {
        let server = AuthorizationServer::in_process();
        server.always(reply(answer));
        let error =
            client(&server).build().unwrap().fetch(FetchContext::first()).await.unwrap_err();
        assert_eq!(error.kind(), expected, "{answer}");
    }
}

/// An error around the object counts, and so does one within; one that is not there is none.
#[tokio::test(start_paused = true)]
async fn trs_12_trs_16_errors_are_found_around_a_nested_token() {
    let token = json!({ "access_token": "nested-token", "token_type": "user" });
    let mut failed = token.clone();
    failed["error"] = json!("inner nested-token");
    for (body, expected) in [
        (json!({ "ok": false, "error": "nested-token", "authed_user": token }), Denied),
        (json!({ "ok": true, "authed_user": failed }), Denied),
        (json!({ "access_token": "t", "token_type": "user" }), ErrorKind::MalformedResponse),
        (json!({ "authed_user": [token] }), ErrorKind::MalformedResponse),
    ] {
        let server = AuthorizationServer::in_process();
        server.always(Reply::json(200, body.clone()));
        let source = refresh(&server).token_at("/authed_user").bearer_type("user").build().unwrap();
        let error = source.fetch(FetchContext::first()).await.unwrap_err();
        assert_eq!(error.kind(), expected, "{body}");
        assert!(!format!("{error} {error:?}").contains("nested-token"), "{error}");
    }
}

#[test]
fn trs_12_a_place_that_is_no_json_pointer_is_refused() {
    let server = AuthorizationServer::in_process();
    for bad in ["", "authed_user", "$.authed_user", "/a~b"] {
        let error = client(&server).token_at(bad).build().unwrap_err();
        assert!(error.to_string().contains("token_at"), "{error}");
    }
}

#[test]
fn trs_02_a_type_that_needs_a_proof_cannot_be_called_a_bearer_type() {
    let server = AuthorizationServer::in_process();
    for bad in ["", "DPoP", "pop", "MAC", "N_A"] {
        let error = client(&server).bearer_type(bad).build().unwrap_err();
        assert!(error.to_string().contains("bearer_type"), "{error}");
    }
}

pub(crate) fn client(server: &AuthorizationServer) -> GrantBuilder<ClientCredentialsOptions> {
    let auth = ClientAuth::basic("orders", "hunter2");
    ClientCredentials::builder(server.token_endpoint(), auth).transport(transport(server))
}

fn refresh(server: &AuthorizationServer) -> GrantBuilder<RefreshTokenOptions> {
    let auth = ClientAuth::none("orders");
    RefreshToken::builder(server.token_endpoint(), auth, "old").transport(transport(server))
}

fn transport(server: &AuthorizationServer) -> Transport {
    Transport::new::<_, Full<Bytes>, _>(server.service())
}

async fn fetch(grant: Grant, server: &AuthorizationServer) -> Result<TokenSet, Error> {
    let cx = FetchContext::first();
    let scopes = ["read", "write"];
    match grant {
        Client => client(server).scopes(scopes).build().unwrap().fetch(cx).await,
        SlackBot => {
            let source = client(server).scopes(scopes).bearer_type("bot");
            source.build().unwrap().fetch(cx).await
        }
        Refresh => refresh(server).build().unwrap().fetch(cx).await,
        SlackUser => {
            let source = refresh(server).token_at("/authed_user").bearer_type("user");
            source.build().unwrap().fetch(cx).await
        }
        Exchange => {
            let (url, auth) = (server.token_endpoint(), ClientAuth::anonymous());
            let source = TokenExchange::builder(url, auth, "subject", TokenExchange::JWT)
                .scopes(scopes)
                .transport(transport(server));
            source.build().unwrap().fetch(cx).await
        }
    }
}

fn check(answer: &str, expected: &Expected, outcome: Result<TokenSet, Error>) {
    match (expected, outcome) {
        (
            Expected::Token { token, lifetime, refresh_in, scopes, refresh_token, member },
            Ok(got),
        ) => {
            let seconds = |seconds: &Option<u64>| seconds.map(Duration::from_secs);
            assert_eq!(got.access_token().expose(), *token, "{answer}");
            assert_eq!(got.lifetime(), seconds(lifetime), "{answer}");
            assert_eq!(got.refresh_in(), seconds(refresh_in), "{answer}");
            assert_eq!(got.usable_in(), None, "{answer}");
            let granted = got.scopes().map(ToString::to_string);
            assert_eq!(granted.as_deref(), *scopes, "{answer}");
            let renewing = got.refresh_token().map(Secret::expose);
            assert_eq!(renewing, *refresh_token, "{answer}");
            assert!(member.is_none_or(|name| got.member(name).is_some()), "{answer}");
        }
        (Expected::Error { kind, status, code, says, retry_after }, Err(got)) => {
            assert_eq!(got.kind(), *kind, "{answer}: {got}");
            let said = got.oauth().unwrap();
            assert_eq!((said.status.as_u16(), said.code.as_deref()), (*status, *code), "{answer}");
            assert!(got.to_string().contains(says), "{answer}: {got}");
            let wait = got.retry_at().map(|at| at.duration_since(tokio::time::Instant::now()));
            assert_eq!(wait.map(|wait| wait.as_secs()), *retry_after, "{answer}");
        }
        (_, Ok(got)) => panic!("{answer} is taken for a token: {got:?}"),
        (_, Err(got)) => panic!("{answer} is taken for an error: {got}"),
    }
}
