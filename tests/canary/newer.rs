//! The grants that trade a credential of somebody else's making, signed assertions, programs and
//! pools.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
#[cfg(feature = "private-key-jwt")]
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use tower::{Layer, ServiceExt, service_fn};
use tower_oauth::{
    ClientAuth, ClientCredentials, ExternalAccount, FileToken, JwtBearer, RefreshToken,
    Saml2Bearer, SecretSource, TokenExchange, TokenSource, Transport,
    testing::{AuthorizationServer, ProtectedApi, Reply},
};

use crate::{
    record::Record,
    run::{CLIENT, fetch, server},
    scan::Canary,
};

const ASSERTION: &str =
    "eyJhbGciOiJub25lIn0.eyJzdWIiOiJvUnQ3UXpYNXdKOWtMIn0.aS9Wq3-Zb8_Nc5Tj2Xk7Rm4";
const SAML: &str = "<Assertion><Signature>xV7Kt3Jw9Vz5Rq8Mx2Hb7Df4</Signature></Assertion>";
const SUBJECT: &str = "sT6Mn2Bv8Cx4Zl9Kj3Hg7Fd5Sa1Qw0Er";
const ACTOR: &str = "oT3Yu7Iz9Op2Lk4Jh6Gf8Ds1Am5Nb0Vc";
const FEDERATED: &str = "fT9Qe4Wr7Ty2Ui5Op8As1Df3Gh6Jk0Lz";
const NESTED: &str = "nT5Xc8Vb2Nm6Qa9Ws3Ed7Rf1Tg4Yh0Uj";

/// Does everything, and returns all that must not be found in the record.
pub(crate) async fn everything(record: &Record) -> Vec<Canary> {
    let server = server().await;
    let api = ProtectedApi::start(&server).await.unwrap();
    grants(record, &server).await;
    api_of_a_nested_token(record, &server, &api).await;
    external_account(record, &server).await;
    let mut canaries = vec![
        Canary::new("client assertion", ASSERTION),
        Canary::new("SAML assertion", SAML),
        Canary::new("SAML assertion as it is sent", BASE64_URL_SAFE_NO_PAD.encode(SAML)),
        Canary::new("subject token", SUBJECT),
        Canary::new("actor token", ACTOR),
        Canary::new("federated token", FEDERATED),
        Canary::new("nested token", NESTED),
    ];
    #[cfg(feature = "private-key-jwt")]
    canaries.extend(signed::everything(record, &server).await);
    #[cfg(all(unix, feature = "external-command"))]
    canaries.extend(program::everything(record).await);
    #[cfg(feature = "pool")]
    pool(record, &server, &api).await;
    canaries
}

/// An answer that puts what was sent everywhere.
fn echo(status: u16, text: &str) -> Reply {
    let body = json!({
        "error": text, "error_description": text, "error_uri": text, "token_type": text,
        "access_token": text, "issued_token_type": text, "scope": text,
    });
    Reply::json(status, body)
}

/// A token response with that in the places that are shown.
fn echo_as_token(text: &str) -> [Reply; 2] {
    [
        Reply::json(200, json!({ "access_token": "t", "token_type": text })),
        Reply::json(
            200,
            json!({ "access_token": "t", "token_type": "Bearer", "issued_token_type": text }),
        ),
    ]
}

/// Fetches with an answer of every kind that repeats what was sent.
async fn refused(
    record: &Record,
    server: &AuthorizationServer,
    source: &impl TokenSource,
    secrets: &[&str],
) {
    for secret in secrets {
        for status in [200, 400, 401, 503] {
            // It is read again and sent again, if it can change.
            server.script_many([echo(status, secret), echo(status, secret)]);
            assert!(fetch(record, source).await.is_none());
            server.honest();
        }
        for reply in echo_as_token(secret) {
            server.script(reply);
            fetch(record, source).await;
            server.honest();
        }
    }
}

async fn grants(record: &Record, server: &AuthorizationServer) {
    let url = server.token_endpoint();
    let auth = || ClientAuth::assertion(CLIENT, ASSERTION);
    let source = ClientCredentials::builder(&url, auth()).build().unwrap();
    record.debug((auth(), &source));
    refused(record, server, &source, &[ASSERTION]).await;

    let source = JwtBearer::builder(&url, ClientAuth::anonymous(), ASSERTION).build().unwrap();
    record.debug(&source);
    refused(record, server, &source, &[ASSERTION]).await;

    let source = Saml2Bearer::builder(&url, ClientAuth::none(CLIENT), SAML).build().unwrap();
    record.debug(&source);
    refused(record, server, &source, &[&BASE64_URL_SAFE_NO_PAD.encode(SAML)]).await;

    let exchange = TokenExchange::builder(&url, auth(), SUBJECT, TokenExchange::JWT)
        .actor_token(ACTOR, TokenExchange::JWT);
    record.debug(&exchange);
    let source = exchange.build().unwrap();
    record.debug(&source);
    refused(record, server, &source, &[SUBJECT, ACTOR, ASSERTION]).await;

    // Expired, and in a file that is none.
    let expired = format!("{}.{}.{SUBJECT}", "e30", BASE64_URL_SAFE_NO_PAD.encode(r#"{"exp":1}"#));
    let source =
        JwtBearer::builder(&url, ClientAuth::anonymous(), expired.as_str()).build().unwrap();
    assert!(fetch(record, &source).await.is_none());
    let source = ClientCredentials::builder(&url, ClientAuth::assertion(CLIENT, expired));
    assert!(fetch(record, &source.build().unwrap()).await.is_none());
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("canary-token");
    std::fs::write(&path, format!("{SUBJECT} {ACTOR}")).unwrap();
    assert!(fetch(record, &FileToken::new(&path)).await.is_none());
    std::fs::write(&path, SUBJECT).unwrap();
    assert!(fetch(record, &FileToken::new(&path)).await.is_some());
    std::fs::remove_file(&path).unwrap();
}

async fn api_of_a_nested_token(record: &Record, server: &AuthorizationServer, api: &ProtectedApi) {
    let user = |more: Value| {
        let mut token = json!({ "access_token": NESTED, "token_type": "user" });
        token.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "ok": true, "authed_user": token })
    };
    let source = RefreshToken::builder(server.token_endpoint(), ClientAuth::none(CLIENT), SUBJECT)
        .token_at("/authed_user")
        .bearer_type("user")
        .build()
        .unwrap();
    for body in [
        user(json!({ "error": NESTED })),
        user(json!({ "token_type": NESTED })),
        json!({ "ok": false, "error": NESTED, "authed_user": [{ "access_token": NESTED }] }),
        user(json!({})),
    ] {
        server.script(Reply::json(200, body));
        fetch(record, &source).await;
    }
    server.script(Reply::json(200, user(json!({ "expires_in": 3600 }))));
    let tokens = crate::run::tokens(record, source);
    let origins = api.url().parse().unwrap();
    let client = tower_oauth::OAuthLayer::new(tokens.clone(), origins).layer(crate::run::hyper());
    let request = Request::get(api.url()).body(Full::default()).unwrap();
    record.debug(client.oneshot(request).await.unwrap());
    // The API does not know it, and the server not the refresh token.
    record.error(tokens.token().await.unwrap_err());
    record.debug(tokens.status());
}

async fn external_account(record: &Record, server: &AuthorizationServer) {
    let url = server.token_endpoint();
    let host = url.split('/').nth(2).unwrap();
    let configuration = json!({
        "type": "external_account", "audience": "//iam.googleapis.com/p",
        "subject_token_type": TokenExchange::JWT, "token_url": url,
        "service_account_impersonation_url": url,
        "client_id": CLIENT, "client_secret": ACTOR,
        "credential_source": { "executable": { "command": ACTOR } },
    });
    let builder = || ExternalAccount::builder(&configuration.to_string()).unwrap().allow_host(host);
    record.debug(builder());
    record.error(builder().build().unwrap_err());
    let own = || builder().subject_token(SecretSource::provider(|| async { Ok(SUBJECT.into()) }));
    record.debug(own());
    let source = own().build().unwrap();
    record.debug(&source);
    refused(record, server, &source, &[SUBJECT, ACTOR]).await;
    let federated = || {
        Reply::json(
            200,
            json!({
                "access_token": FEDERATED, "token_type": "Bearer",
                "issued_token_type": TokenExchange::ACCESS_TOKEN,
            }),
        )
    };
    for reply in [
        echo(401, FEDERATED),
        echo(403, FEDERATED),
        Reply::json(403, json!({ "error": { "status": FEDERATED, "message": FEDERATED } })),
        Reply::json(200, json!({ "accessToken": NESTED, "expireTime": FEDERATED })),
        Reply::json(200, json!({ "accessToken": NESTED, "error": NESTED })),
        Reply::json(200, json!({ "accessToken": NESTED, "expireTime": "2100-01-01T00:00:00Z" })),
    ] {
        server.script_many([federated(), reply]);
        fetch(record, &source).await;
        server.honest();
    }
}

#[cfg(feature = "private-key-jwt")]
mod signed {
    use tower_oauth::{ClientAssertion, SigningAlgorithm, SigningKey};

    use super::*;

    const KEY: &str = "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";
    const SIGNING_SECRET: &str = "hS8Nb3Vx7Cz1Ml5Kj9Hg2Fd6Sa4Qp0Wo8Ei";

    /// Every assertion that was sent is a canary as well.
    pub(super) async fn everything(record: &Record, server: &AuthorizationServer) -> Vec<Canary> {
        let issuer = server.url().to_owned();
        let jwk = format!(r#"{{"kty":"OKP","crv":"Ed25519","d":"{KEY}"}}"#);
        let mut canaries =
            vec![Canary::new("private key", KEY), Canary::new("signing secret", SIGNING_SECRET)];
        server.reset_ledger();
        let broken = [
            SigningKey::jwk(jwk.replace("OKP", "EC")),
            SigningKey::jwk(jwk.replace('}', "")),
            SigningKey::pem(jwk.as_str(), SigningAlgorithm::Es256),
        ];
        let key = SigningKey::jwk(jwk);
        record.debug((&key, &broken));
        let assertions = [key]
            .into_iter()
            .chain(broken)
            .map(|key| ClientAssertion::private_key(CLIENT, key, &*issuer))
            .chain([ClientAssertion::client_secret(CLIENT, SIGNING_SECRET, &*issuer)]);
        for assertion in assertions {
            let is_secret = ClientAuth::from(assertion.clone()).method() == "client_secret_jwt";
            record.debug(&assertion);
            let url = server.token_endpoint();
            let source = ClientCredentials::builder(&url, assertion.clone()).build().unwrap();
            record.debug(&source);
            fetch(record, &source).await;
            // The private key no server can repeat.
            if is_secret {
                refused(record, server, &source, &[SIGNING_SECRET]).await;
            }
            // Each assertion is a new one: only what answers with it can repeat it.
            let source = ClientCredentials::builder(&url, assertion).transport(repeating());
            fetch(record, &source.build().unwrap()).await;
        }
        let sent = server.token_requests();
        let sent = sent.iter().filter_map(|request| request.param("client_assertion"));
        // The header and the claims are no secret; the signature makes it one.
        let signatures = sent.filter_map(|jwt| Some(jwt.rsplit_once('.')?.1.to_owned()));
        canaries.extend(signatures.map(|text| Canary::new("assertion's signature", text)));
        assert!(canaries.len() > 4);
        canaries
    }
}

/// A server that answers with what it got.
#[cfg(feature = "private-key-jwt")]
fn repeating() -> Transport {
    Transport::new::<_, Full<Bytes>, _>(service_fn(|request: Request<Full<Bytes>>| async {
        let body = request.into_body().collect().await?.to_bytes();
        let text = String::from_utf8_lossy(&body);
        let value = form_urlencoded::parse(&body).find(|(name, _)| name == "client_assertion");
        let value = value.map(|(_, value)| value.into_owned());
        let body = json!({ "error": value, "error_description": text, "error_uri": value });
        let answer = Response::builder().status(400);
        Ok::<_, std::convert::Infallible>(
            answer.body(Full::<Bytes>::from(body.to_string())).unwrap(),
        )
    }))
}

#[cfg(all(unix, feature = "external-command"))]
mod program {
    use tower_oauth::ExternalCommand;

    use super::*;

    const VARIABLE: &str = "vP4Lk8Jh2Gf6Ds9Aq3Wm7Ne1Rb5Tv0Yc";
    const OUTPUT: &str = "oP7Zx3Cv9Bn5Mq1Wa8Es4Rd6Tf2Yg0Uh";

    pub(super) async fn everything(record: &Record) -> Vec<Canary> {
        for script in [
            "echo $OUT",
            "echo $OUT $OUT; echo $X >&2",
            "echo $X >&2; echo $OUT; exit 3",
            "echo '{\"access_token\":\"'$OUT'\",\"token_type\":\"'$OUT'\"}'",
            "echo '{\"access_token\":\"'$OUT'\",\"error\":\"'$X'\"}'",
            "echo '{\"access_token\":\"'$OUT",
            "echo $OUT; kill -9 $$",
            "echo $OUT; exec sleep 10",
        ] {
            let builder = ExternalCommand::danger_builder("/bin/sh")
                .args(["-c", script, VARIABLE])
                .env("X", VARIABLE)
                .env("OUT", OUTPUT)
                .env("PATH", "/usr/bin:/bin")
                .timeout(std::time::Duration::from_millis(400));
            record.debug(&builder);
            let source = builder.build().unwrap();
            record.debug(&source);
            fetch(record, &source).await;
        }
        vec![Canary::new("variable", VARIABLE), Canary::new("output", OUTPUT)]
    }
}

/// The tenant's name is its own, and no secret.
#[cfg(feature = "pool")]
async fn pool(record: &Record, server: &AuthorizationServer, api: &ProtectedApi) {
    use tower_oauth::{OAuthLayer, TokenPool};

    let url = server.token_endpoint();
    let pool = TokenPool::builder(move |tenant: &u32| {
        let auth = ClientAuth::assertion(format!("tenant-{tenant}"), ASSERTION);
        ClientCredentials::builder(&url, auth).build().unwrap()
    })
    .spawn();
    let origins = api.url().parse().unwrap();
    let layer = OAuthLayer::keyed(pool.clone(), origins, |_: &Request<_>| Some(7));
    let client = layer.layer(crate::run::hyper());
    record.debug(&pool);
    for reply in [Reply::honest(), echo(400, ASSERTION), echo(401, ASSERTION)] {
        server.script(reply);
        let request = Request::get(api.url()).body(Full::default()).unwrap();
        match client.clone().oneshot(request).await {
            Ok(response) => record.debug(response),
            Err(error) => record.error(error),
        }
        server.revoke_access_tokens();
    }
    server.honest();
}
