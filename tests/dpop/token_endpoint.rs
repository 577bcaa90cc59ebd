use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tower_oauth::{
    ClientAssertion, ClientAuth, ClientCredentials, ErrorKind, FetchContext, JwtBearer,
    RefreshToken, Saml2Bearer, SigningAlgorithm, SigningKey, TokenExchange, TokenSource, TokenType,
    time::{Clock, Moment},
};

use super::server::{
    Server, TOKEN_ENDPOINT, answer, client_credentials, honest, key, refusal, token, transport,
};

#[tokio::test(start_paused = true)]
async fn dpo_05_every_grant_sends_a_proof_for_the_token_endpoint() {
    let (server, key) = (honest(), key());
    let auth = || ClientAuth::basic("orders", "secret");
    let cx = FetchContext::first;
    let transport = || transport(&server);
    let (url, key_) = (format!("{TOKEN_ENDPOINT}?tenant=a"), || key.clone());
    let grant = ClientCredentials::builder(&*url, auth()).dpop(key_()).transport(transport());
    grant.build().unwrap().fetch(cx()).await.unwrap();
    let grant = RefreshToken::builder(&*url, ClientAuth::none("cli"), "r").dpop(key_());
    grant.transport(transport()).build().unwrap().fetch(cx()).await.unwrap();
    let grant = JwtBearer::builder(&*url, auth(), "a.b.c").dpop(key_()).transport(transport());
    grant.build().unwrap().fetch(cx()).await.unwrap();
    let grant = Saml2Bearer::builder(&*url, auth(), "<a/>").dpop(key_()).transport(transport());
    grant.build().unwrap().fetch(cx()).await.unwrap();
    let subject = "urn:ietf:params:oauth:token-type:access_token";
    let grant = TokenExchange::builder(&*url, auth(), "s", subject).dpop(key_());
    // The server leaves the issued type out, which is not what is tested here.
    let _ = grant.transport(transport()).build().unwrap().fetch(cx()).await;

    let seen = server.seen();
    assert_eq!(seen.len(), 5);
    for seen in &seen {
        assert_eq!(seen.claim("htm"), Some("POST"));
        assert_eq!(seen.claim("htu"), Some(TOKEN_ENDPOINT));
        assert!(seen.claims().get("ath").is_none(), "dpo_04: there is no access token yet");
    }
    let ids: HashSet<_> = seen.iter().map(|seen| seen.claim("jti").unwrap()).collect();
    assert_eq!(ids.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn dpo_06_a_bearer_token_is_discarded_unless_it_was_allowed() {
    let bearer = || {
        Server::new(|_, _| {
            answer(200, &[], r#"{"access_token":"hidden","token_type":"Bearer","expires_in":60}"#)
        })
    };
    let server = bearer();
    let source = client_credentials(&server, &key());
    let error = source.fetch(FetchContext::first()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnusableToken);
    assert!(error.to_string().contains("DPoP") && !error.to_string().contains("hidden"), "{error}");

    let server = bearer();
    let source = ClientCredentials::builder(TOKEN_ENDPOINT, ClientAuth::basic("a", "b"))
        .danger_dpop_or_bearer(key())
        .transport(transport(&server))
        .build()
        .unwrap();
    let token = source.fetch(FetchContext::first()).await.unwrap();
    assert_eq!(token.token_type(), TokenType::Bearer);
    assert!(token.dpop_key().is_none());
    assert!(server.seen()[0].proof.is_some(), "it is asked for all the same");
}

#[tokio::test(start_paused = true)]
async fn dpo_07_a_nonce_is_sent_once_asked_for_with_a_new_proof_and_a_new_assertion() {
    let server = Server::new(|seen, before| match seen.claim("nonce") {
        Some("n1") => token(before, &[]),
        _ => refusal(400, "use_dpop_nonce", &[("dpop-nonce", "n1")]),
    });
    let signing = SigningKey::pem(key().to_pem().unwrap(), SigningAlgorithm::Es256);
    let auth = ClientAssertion::private_key("orders", signing, "https://as.example");
    let source = ClientCredentials::builder(TOKEN_ENDPOINT, auth)
        .scope("a")
        .dpop(key())
        .transport(transport(&server))
        .build()
        .unwrap();
    source.fetch(FetchContext::first()).await.unwrap();
    let [first, second] = server.seen().try_into().ok().expect("two requests");
    assert_eq!(first.claim("nonce"), None);
    assert_ne!(first.claim("jti"), second.claim("jti"));
    for name in ["grant_type", "scope", "client_id"] {
        assert_eq!(first.param(name), second.param(name), "{name}");
    }
    assert_ne!(first.param("client_assertion"), second.param("client_assertion"), "jwt_05");
    // It is remembered.
    source.fetch(FetchContext::first()).await.unwrap();
    assert_eq!(server.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn dpo_09_a_nonce_that_comes_with_a_token_is_the_next_one() {
    let server = Server::new(|seen, before| {
        let expected = (before > 0).then(|| format!("n{before}"));
        assert_eq!(seen.claim("nonce"), expected.as_deref());
        token(before, &[("dpop-nonce", &format!("n{}", before + 1))])
    });
    let source = client_credentials(&server, &key());
    for _ in 0..3 {
        source.fetch(FetchContext::first()).await.unwrap();
    }
    assert_eq!(server.count(), 3);
}

#[tokio::test(start_paused = true)]
async fn f90_each_challenge_that_teaches_something_is_answered_up_to_three_requests() {
    // Two nonces, one after the other.
    let server = Server::new(|seen, before| match seen.claim("nonce") {
        None => refusal(400, "use_dpop_nonce", &[("dpop-nonce", "n1")]),
        // The case of a code does not count.
        Some("n1") => refusal(400, "USE_DPOP_NONCE", &[("dpop-nonce", "n2")]),
        _ => token(before, &[]),
    });
    client_credentials(&server, &key()).fetch(FetchContext::first()).await.unwrap();
    assert_eq!(server.count(), 3);

    // A nonce, and then the time.
    let date = "Tue, 14 Nov 2023 22:13:20 GMT";
    let server = Server::new(move |_, before| match before {
        0 => refusal(400, "use_dpop_nonce", &[("dpop-nonce", "n1")]),
        1 => refusal(400, "invalid_dpop_proof", &[("date", date)]),
        _ => token(before, &[]),
    });
    client_credentials(&server, &key()).fetch(FetchContext::first()).await.unwrap();
    assert_eq!(server.count(), 3);

    // A server that wants another nonce each time: it may be content in a moment.
    let server = Server::new(|_, before| {
        refusal(400, "use_dpop_nonce", &[("dpop-nonce", &format!("n{before}"))])
    });
    let source = client_credentials(&server, &key());
    let error = source.fetch(FetchContext::first()).await.unwrap_err();
    assert_eq!(server.count(), 3);
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Server, true));
    assert_eq!(error.oauth().unwrap().code.as_deref(), Some("use_dpop_nonce"));
}

#[tokio::test(start_paused = true)]
async fn dpo_10_a_server_that_is_never_content_gets_two_requests() {
    for (fields, requests) in [
        (&[("dpop-nonce", "n")][..], 2),
        (&[][..], 1),
        (&[("dpop-nonce", "a"), ("dpop-nonce", "b")][..], 1),
        (&[("dpop-nonce", "a b")][..], 1),
    ] {
        let server = Server::new(move |_, _| refusal(400, "use_dpop_nonce", fields));
        let source = client_credentials(&server, &key());
        let error = source.fetch(FetchContext::first()).await.unwrap_err();
        assert_eq!(error.oauth().unwrap().code.as_deref(), Some("use_dpop_nonce"));
        assert_eq!(server.count(), requests, "{fields:?}");
    }
}

/// A clock that is wrong by ten minutes.
#[derive(Debug)]
struct Late;

const SERVER_TIME: u64 = 1_700_000_000;

impl Clock for Late {
    fn now(&self) -> Moment {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(SERVER_TIME - 600);
        Moment { boot: Duration::from_secs(1), wall }
    }
}

#[tokio::test(start_paused = true)]
async fn dpo_13_f54_a_wrong_clock_is_corrected_once_by_the_date_of_the_refusal() {
    let date = "Tue, 14 Nov 2023 22:13:20 GMT";
    let server = Server::new(move |seen, before| {
        let iat = seen.claims()["iat"].as_u64().unwrap();
        if iat.abs_diff(SERVER_TIME) > 60 {
            return refusal(400, "invalid_dpop_proof", &[("date", date)]);
        }
        token(before, &[("date", date)])
    });
    let source = client_credentials(&server, &key());
    let cx = || {
        let mut cx = FetchContext::first();
        cx.clock = Arc::new(Late);
        cx
    };
    source.fetch(cx()).await.unwrap();
    assert_eq!(server.count(), 2);
    source.fetch(cx()).await.unwrap();
    assert_eq!(server.count(), 3, "it is remembered");

    let server = Server::new(move |_, _| refusal(400, "invalid_dpop_proof", &[("date", date)]));
    let source = client_credentials(&server, &key());
    let error = source.fetch(cx()).await.unwrap_err();
    assert_eq!(error.oauth().unwrap().code.as_deref(), Some("invalid_dpop_proof"));
    assert_eq!(server.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn log_01_a_proof_that_comes_back_is_not_in_the_error() {
    let server = Server::new(|seen, _| {
        let proof = seen.header("dpop").unwrap();
        answer(400, &[], format!(r#"{{"error":"invalid_request","error_description":"{proof}"}}"#))
    });
    let source = client_credentials(&server, &key());
    let error = source.fetch(FetchContext::first()).await.unwrap_err();
    let proof = server.seen()[0].header("dpop").unwrap().to_owned();
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains(&proof[..100]) && shown.contains("[redacted]"), "{shown}");
}
