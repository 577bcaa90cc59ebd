//! The end of a handle, with its tokens revoked.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::time::sleep;
use tower_oauth::{
    Chain, ClientAuth, ClientCredentials, Error, ErrorKind, FetchContext, RefreshToken, State,
    TokenHandle, TokenSet, TokenSource, source_fn,
};

use crate::fake::{Internet, METADATA, REVOKE, TOKEN, reply};

fn rotating(internet: &Internet) -> RefreshToken {
    let body = r#"{"access_token":"a2","token_type":"Bearer","refresh_token":"r2"}"#;
    internet.put(TOKEN, reply(200, body));
    let auth = ClientAuth::basic("orders", "s");
    RefreshToken::builder(internet.discovery(), auth, "r1").build().unwrap()
}

/// The tokens that were revoked, in their order.
fn revoked(internet: &Internet) -> Vec<String> {
    let seen = internet.seen().into_iter().filter(|seen| seen.url == REVOKE);
    seen.map(|seen| seen.param("token").unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn rev_01_the_newest_refresh_token_is_revoked_first_and_nothing_is_served_after() {
    let internet = Internet::with_issuer(&json!({}));
    let tokens = TokenHandle::spawn(rotating(&internet));
    tokens.ready().await.unwrap();
    tokens.shutdown().revoke().await.unwrap();
    assert_eq!(revoked(&internet), ["r2", "a2"]);
    assert!(tokens.current().is_none());
    assert_eq!(tokens.status().state(), State::Stopped);
    assert_eq!(tokens.token().await.unwrap_err().kind(), ErrorKind::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn rev_01_the_tokens_are_gone_here_even_if_the_call_fails() {
    for (answer, kind) in [(None, ErrorKind::Transport), (reply(500, ""), ErrorKind::Server)] {
        let internet = Internet::with_issuer(&json!({}));
        internet.put(REVOKE, answer);
        let tokens = TokenHandle::spawn(rotating(&internet));
        tokens.ready().await.unwrap();
        let error = tokens.shutdown().revoke().await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(tokens.current().is_none());
        assert_eq!(revoked(&internet), ["r2", "a2"]);
    }
}

/// A request must not go out with a token that is about to be revoked.
#[tokio::test(start_paused = true)]
async fn rev_01_the_tokens_are_gone_here_before_the_call() {
    struct Looking(Arc<std::sync::OnceLock<TokenHandle>>);
    impl TokenSource for Looking {
        async fn fetch(&self, _: FetchContext) -> Result<TokenSet, Error> {
            TokenSet::bearer("a1")
        }
        async fn revoke(&self, cx: FetchContext) -> Result<(), Error> {
            assert!(self.0.get().unwrap().current().is_none());
            assert_eq!(cx.previous.unwrap().access_token().expose(), "a1");
            Ok(())
        }
    }
    let handle: Arc<std::sync::OnceLock<TokenHandle>> = Arc::default();
    let tokens = TokenHandle::spawn(Looking(handle.clone()));
    handle.set(tokens.clone()).unwrap();
    tokens.ready().await.unwrap();
    tokens.shutdown().revoke().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn rev_01_a_fetch_under_way_ends_first_and_what_it_gave_is_revoked() {
    let internet = Internet::with_issuer(&json!({}));
    let tokens = TokenHandle::spawn(rotating(&internet));
    tokens.ready().await.unwrap();
    let another = r#"{"access_token":"a3","token_type":"Bearer","refresh_token":"r3"}"#;
    internet.put(TOKEN, reply(200, another));
    let refreshing = tokens.clone();
    tokio::spawn(async move { refreshing.refresh().await.map(drop) });
    // Sent, and not answered yet.
    while internet.count(TOKEN) < 2 {
        sleep(Duration::from_millis(1)).await;
    }
    tokens.shutdown().revoke().await.unwrap();
    assert_eq!(revoked(&internet), ["r3", "a3"]);
}

#[tokio::test(start_paused = true)]
async fn rev_01_the_initial_refresh_token_is_revoked_if_there_is_no_other_yet() {
    let internet = Internet::with_issuer(&json!({}));
    let source = rotating(&internet);
    internet.put(TOKEN, None);
    let tokens = TokenHandle::spawn(source);
    sleep(Duration::from_millis(100)).await;
    tokens.shutdown().revoke().await.unwrap();
    assert_eq!(revoked(&internet), ["r1"]);
}

#[tokio::test(start_paused = true)]
async fn rev_01_the_revocation_endpoint_can_be_set() {
    let internet = Internet::with_issuer(&json!({}));
    let other = "https://revoke.example/";
    internet.put(other, reply(200, ""));
    let build = |url: Option<&str>| {
        let auth = ClientAuth::basic("orders", "s");
        let builder = ClientCredentials::builder(TOKEN, auth).transport(internet.transport());
        match url {
            Some(url) => builder.revocation_endpoint(url).build(),
            None => builder.build(),
        }
    };
    let tokens = TokenHandle::spawn(build(Some(other)).unwrap());
    tokens.ready().await.unwrap();
    tokens.shutdown().revoke().await.unwrap();
    assert_eq!(internet.only(other).param("token").as_deref(), Some("t"));

    let tokens = TokenHandle::spawn(build(None).unwrap());
    tokens.ready().await.unwrap();
    let error = tokens.shutdown().revoke().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(build(Some("http://revoke.example")).is_err());
}

#[tokio::test(start_paused = true)]
async fn shutdown_without_revocation_sends_nothing() {
    let internet = Internet::with_issuer(&json!({}));
    let tokens = TokenHandle::spawn(rotating(&internet));
    tokens.ready().await.unwrap();
    // It is a future, as it always was, and may be wrapped as one.
    tokio::time::timeout(Duration::from_secs(1), tokens.shutdown()).await.unwrap();
    assert!(revoked(&internet).is_empty());
    let late = tokens.shutdown().revoke().await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn everybody_who_asks_for_the_revocation_learns_of_it() {
    let internet = Internet::with_issuer(&json!({}));
    let tokens = TokenHandle::spawn(rotating(&internet));
    tokens.ready().await.unwrap();
    let (first, second) = tokio::join!(tokens.shutdown().revoke(), tokens.shutdown().revoke());
    assert!(first.is_ok() && second.is_ok());
    assert_eq!(revoked(&internet).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_bounded_and_a_panic_in_it_is_an_error() {
    struct Bad(fn());
    impl TokenSource for Bad {
        async fn fetch(&self, _: FetchContext) -> Result<TokenSet, Error> {
            TokenSet::bearer("a1")
        }
        async fn revoke(&self, _: FetchContext) -> Result<(), Error> {
            (self.0)();
            pending().await
        }
    }
    for (action, kind) in
        [((|| {}) as fn(), ErrorKind::Timeout), (|| panic!("in the source"), ErrorKind::Panic)]
    {
        let tokens = TokenHandle::spawn(Bad(action));
        tokens.ready().await.unwrap();
        assert_eq!(tokens.shutdown().revoke().await.unwrap_err().kind(), kind);
    }
    // A refresher that nobody runs.
    let (tokens, _refresher) = TokenHandle::pair(Bad(|| {}));
    assert_eq!(tokens.shutdown().revoke().await.unwrap_err().kind(), ErrorKind::Timeout);
    // And one that was dropped.
    let (tokens, refresher) = TokenHandle::pair(Bad(|| {}));
    drop(refresher);
    assert_eq!(tokens.shutdown().revoke().await.unwrap_err().kind(), ErrorKind::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn each_source_of_a_chain_revokes_what_it_gave() {
    struct Counting(&'static str, Arc<AtomicUsize>);
    impl TokenSource for Counting {
        async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
            if self.0 == "a" && cx.previous.is_some() {
                return Err(Error::new(ErrorKind::Transport, "not now"));
            }
            TokenSet::bearer(self.0)
        }
        async fn revoke(&self, cx: FetchContext) -> Result<(), Error> {
            self.1.fetch_add(1, Ordering::Relaxed);
            assert_eq!(cx.previous.unwrap().access_token().expose(), self.0);
            Ok(())
        }
    }
    let calls = Arc::new(AtomicUsize::new(0));
    let counting = |name| Arc::new(Counting(name, calls.clone()));
    let tokens = TokenHandle::spawn(Chain::new(counting("a")).or(counting("b")));
    tokens.ready().await.unwrap();
    tokens.refresh().await.unwrap();
    tokens.shutdown().revoke().await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 2);

    let plain = TokenHandle::spawn(source_fn(|_| async { TokenSet::bearer("a") }));
    plain.ready().await.unwrap();
    let error = plain.shutdown().revoke().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

/// What is not needed to revoke must not keep it from being done.
#[tokio::test(start_paused = true)]
async fn rev_01_an_endpoint_that_is_configured_is_looked_up_only_for_the_clients_method() {
    const OWN: &str = "https://idp.example/own-revocation";
    let methods = json!({ "revocation_endpoint_auth_methods_supported": ["client_secret_post"] });
    for (auth, urls, credentials) in [
        (ClientAuth::basic("orders", "s"), vec![OWN, OWN], "header"),
        (ClientAuth::secret("orders", "s"), vec![METADATA, OWN, OWN], "secret"),
    ] {
        let internet = Internet::with_issuer(&methods);
        internet.put(OWN, reply(200, ""));
        let source = RefreshToken::builder(internet.discovery(), auth, "r1")
            .revocation_endpoint(OWN)
            .transport(internet.transport())
            .build()
            .unwrap();
        let mut cx = FetchContext::first();
        cx.previous = Some(Arc::new(TokenSet::bearer("a1").unwrap().with_refresh_token("r1")));
        source.revoke(cx).await.unwrap();
        assert_eq!(internet.urls(), urls);
        assert_eq!(internet.seen().last().unwrap().credentials(), [credentials]);
    }
}
