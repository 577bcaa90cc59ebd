//! A token's life: refused, revoked, renewed under load, kept through an outage.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tower_oauth::{
    BoxError, ClientAuth, ClientCredentials, Error, ErrorKind, RefreshToken, Status, TokenHandle,
};

use crate::{
    common::node::OidcServer,
    harness::{
        CALLERS, Caller, HOUR, Load, PATIENCE, PAUSE, client, client_credentials, post, wait_until,
    },
};

#[tokio::test]
async fn too_little_scope_reaches_the_caller_and_costs_no_token_request() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    let caller = Caller::new(&server, &client_credentials(&server)?)?;
    assert_eq!(caller.call("/scope/read").await?.status, 200);
    assert_eq!(caller.call("/scope/write").await?.status, 403);
    assert_eq!(caller.call("/").await?.status, 200);
    assert_eq!(server.token_requests().await.len(), 1);
    Ok(())
}

#[tokio::test]
async fn a_token_refused_by_the_api_costs_one_token_request() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    let tokens = client_credentials(&server)?;
    let caller = Caller::new(&server, &tokens)?;
    let refused = caller.call("/").await?.token().to_owned();
    server.refuse_at_api(&refused).await;

    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let caller = caller.clone();
        callers.spawn(async move { caller.call("/").await });
    }
    for answer in callers.join_all().await {
        let answer = answer?;
        assert_eq!(answer.status, 200);
        assert_ne!(answer.token(), refused);
    }
    assert_eq!(server.token_requests().await.len(), 2);
    assert!(server.api_answers().await.contains_key("401"), "the API did refuse");
    Ok(())
}

/// [RFC 7009](https://www.rfc-editor.org/rfc/rfc7009), and an opaque token, of which only the
/// authorization server knows whether it is good.
#[tokio::test]
async fn a_token_revoked_at_its_issuer_costs_one_token_request() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    let auth = ClientAuth::post("post", "secret of post");
    let source = ClientCredentials::builder(server.token_endpoint(), auth)
        .scope("read")
        .resource("urn:test:opaque")
        .build()?;
    let caller = Caller::new(&server, &TokenHandle::spawn(source))?;
    let revoked = caller.call("/").await?.token().to_owned();

    let credentials = [("client_id", "post"), ("client_secret", "secret of post")];
    let revocation = [("token", revoked.as_str())];
    let form = [credentials.as_slice(), &revocation].concat();
    assert_eq!(
        post(&server, &format!("{}/revocation", server.token_endpoint()), &form).await?,
        200
    );

    let answer = caller.call("/").await?;
    assert_eq!(answer.status, 200);
    assert_ne!(answer.token(), revoked);
    assert_eq!(server.token_requests().await.len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_renewals_under_load_go_unnoticed_at_one_request_a_lifetime() -> Result<(), BoxError> {
    let lifetime = Duration::from_secs(3);
    let server = OidcServer::start(lifetime).await;
    let load = Load::start(&Caller::new(&server, &client_credentials(&server)?)?);

    sleep(lifetime * 10).await;
    let tokens = load.stop().await?;
    let requests = server.token_requests().await;

    assert!(requests.len() > 10, "{requests:?}");
    assert!(requests.iter().all(|request| request.status == 200), "{requests:?}");
    for (earlier, later) in requests.iter().zip(requests.iter().skip(1)) {
        // Renewed when more than half of the short lifetime is over; never twice, never late.
        let gap = later.at.checked_sub(earlier.at).ok_or("the server's clock went back")?;
        assert!(gap > lifetime.mul_f64(0.5) && gap < lifetime, "{gap:?} in {requests:?}");
    }
    // The last one may have come too late to be used.
    assert!(tokens.len() == requests.len() || tokens.len() + 1 == requests.len());
    assert!(server.api_answers().await.keys().eq(["200"]), "not even a replayed 401");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_within_a_tokens_life_goes_unnoticed() -> Result<(), BoxError> {
    let mut server = OidcServer::start(Duration::from_secs(20)).await;
    let tokens = client_credentials(&server)?;
    let load = Load::start(&Caller::new(&server, &tokens)?);
    tokens.ready().await?;
    server.kill().await;

    // The renewal falls into the outage.
    wait_until(&tokens, |status| status.failures() > 0).await?;
    let error = tokens.status().error().cloned().ok_or("a failure leaves an error")?;
    assert_eq!(error.kind(), ErrorKind::Transport);
    server.restart_on_same_port().await;
    wait_until(&tokens, |status| status.failures() == 0).await?;
    tokens.refresh().await?;

    let used = load.stop().await?;
    assert!(used.len() >= 2, "the token from before the outage, and one from after it");
    assert!(server.token_requests().await.iter().all(|request| request.status == 200));
    assert!(server.api_answers().await.keys().eq(["200"]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_longer_than_a_tokens_life_ends_by_itself() -> Result<(), BoxError> {
    let mut server = OidcServer::start(Duration::from_secs(3)).await;
    let tokens = client_credentials(&server)?;
    let caller = Caller::new(&server, &tokens)?;
    assert_eq!(caller.call("/").await?.status, 200);
    server.kill().await;

    let error = timeout(PATIENCE, async {
        loop {
            match caller.call("/").await {
                Ok(answer) => assert_eq!(answer.status, 200),
                Err(error) => break error,
            }
            sleep(PAUSE).await;
        }
    });
    let error = error.await?;
    let error = Error::find(error.as_ref()).ok_or("the error is not the layer's")?;
    // It waited for the server, and says what failed.
    assert_eq!(error.kind(), ErrorKind::Timeout);
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<Error>());
    assert_eq!(cause.map(Error::kind), Some(ErrorKind::Transport));

    server.restart_on_same_port().await;
    wait_until(&tokens, Status::is_ready).await?;
    assert_eq!(caller.call("/").await?.status, 200);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotated_refresh_tokens_are_used_once_each() -> Result<(), BoxError> {
    let lifetime = Duration::from_secs(3);
    let server = OidcServer::start(lifetime).await;
    let auth = ClientAuth::basic("web", "secret of web");
    let initial = server.sign_in("web").await;
    let source = RefreshToken::builder(server.token_endpoint(), auth, initial).build()?;
    let tokens = TokenHandle::spawn(source);
    let load = Load::start(&Caller::new(&server, &tokens)?);

    sleep(lifetime * 4).await;
    // A refresh token used twice would have ended the session, and this would fail.
    tokens.refresh().await?;
    load.stop().await?;

    let requests = server.token_requests().await;
    assert!(requests.len() >= 5, "{requests:?}");
    for request in &requests {
        assert_eq!((request.grant.as_str(), request.status), ("refresh_token", 200));
    }
    assert!(server.api_answers().await.keys().eq(["200"]));
    Ok(())
}

/// This server ends the session when a refresh token comes twice.
#[cfg(all(feature = "store-file", unix))]
#[tokio::test]
async fn rfr_04_processes_that_share_a_store_never_send_a_refresh_token_twice()
-> Result<(), BoxError> {
    use tower_oauth::store::{FileStore, Persisted};

    let lifetime = Duration::from_secs(3);
    let server = OidcServer::start(lifetime).await;
    let initial = server.sign_in("web").await;
    let store = FileStore::temporary()?;
    let start = || {
        let auth = ClientAuth::basic("web", "secret of web");
        let source = RefreshToken::builder(server.token_endpoint(), auth, initial.as_str());
        Ok::<_, BoxError>(TokenHandle::spawn(Persisted::new(source.build()?, store.clone())))
    };
    let mut all = vec![start()?, start()?, start()?];
    let loads: Vec<_> = all.iter().map(|tokens| Caller::new(&server, tokens)).collect();
    let loads = loads.into_iter().map(|caller| caller.map(|caller| Load::start(&caller)));
    let loads = loads.collect::<Result<Vec<_>, _>>()?;
    sleep(lifetime * 4).await;
    for load in loads {
        load.stop().await?;
    }
    // One ends, and another one starts: it goes on with what is stored.
    all.pop();
    all.push(start()?);
    for tokens in &all {
        tokens.refresh().await?;
    }
    let requests = server.token_requests().await;
    // Four lifetimes, the first token, and three that were asked for.
    assert!((7..=13).contains(&requests.len()), "{requests:?}");
    for request in &requests {
        assert_eq!((request.grant.as_str(), request.status), ("refresh_token", 200));
    }
    Ok(())
}

#[tokio::test]
async fn a_spent_refresh_token_needs_the_user() -> Result<(), BoxError> {
    let server = OidcServer::start(HOUR).await;
    let initial = server.sign_in("web").await;
    let auth = || ClientAuth::basic("web", "secret of web");
    let source = || RefreshToken::builder(server.token_endpoint(), auth(), initial.as_str());
    TokenHandle::spawn(source().build()?).ready().await?;

    let error = TokenHandle::spawn(source().build()?).ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidGrant);
    assert!(error.needs_user());
    Ok(())
}

#[tokio::test]
async fn the_test_servers_count_refuse_die_and_come_back() -> Result<(), BoxError> {
    let mut server = OidcServer::start(HOUR).await;
    let issuer = server.issuer().to_owned();
    let form = [
        ("grant_type", "client_credentials"),
        ("client_id", "post"),
        ("client_secret", "secret of post"),
    ];
    assert_eq!(post(&server, &server.token_endpoint(), &form).await?, 200);
    let requests = server.token_requests().await;
    assert_eq!(requests.len(), 1);
    assert_eq!((requests[0].client.as_str(), requests[0].status), ("post", 200));
    assert_eq!(client(&server)?.get(server.api()).send().await?.status(), 401);
    assert_eq!(server.api_answers().await, [("401".to_owned(), 1)].into());

    server.kill().await;
    assert!(
        post(&server, &server.token_endpoint(), &form).await.is_err(),
        "connections are refused"
    );
    server.restart_on_same_port().await;
    assert_eq!(server.issuer(), issuer);
    assert!(server.token_requests().await.is_empty(), "the statistics start anew");
    Ok(())
}
