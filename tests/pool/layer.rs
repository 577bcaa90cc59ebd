//! The keyed layer: whose token a request gets, and what a refusal causes.

use std::{
    future::{Ready, ready},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use allocation_counter::measure;
use http::{HeaderMap, Request, Response};
use tokio::task::JoinSet;
use tower::{Service, ServiceExt};
use tower_layer::Layer;
use tower_oauth::{
    BoxError, CloneRequest, Error, ErrorKind, ExistingAuthorization, ForeignOrigin,
    KeyedOAuthLayer, MissingKey, OAuthLayer, TokenPool, observe::Event,
};

use crate::{
    common::{api::Api, script::Step},
    source::{HOUR, Scripts, secs},
};

const API: &str = "https://api.example";

fn tenant(request: &Request<String>) -> Option<u32> {
    request.headers().get("x-tenant")?.to_str().ok()?.parse().ok()
}

fn get(url: &str, tenant: Option<u32>) -> Request<String> {
    let mut request = Request::get(url);
    if let Some(tenant) = tenant {
        request = request.header("x-tenant", tenant);
    }
    request.body(String::new()).unwrap()
}

type Key = fn(&Request<String>) -> Option<u32>;

fn layer(pool: &TokenPool<u32>) -> KeyedOAuthLayer<u32, Key> {
    OAuthLayer::keyed(pool.clone(), API.parse().unwrap(), tenant as Key)
}

async fn send<S>(client: &S, request: Request<String>) -> Result<Response<String>, BoxError>
where
    S: Service<Request<String>, Response = Response<String>, Error = BoxError> + Clone,
{
    client.clone().oneshot(request).await
}

fn kind(error: &BoxError) -> ErrorKind {
    Error::find(&**error).expect("the error is ours").kind()
}

/// What the API was sent: tenant and `Authorization`.
fn sent(api: &Api) -> Vec<(Option<String>, Option<String>)> {
    let text = |seen: &crate::common::api::Seen| {
        let tenant = seen.headers.get("x-tenant").map(|v| v.to_str().unwrap().to_owned());
        (tenant, seen.authorization().map(str::to_owned))
    };
    api.seen().iter().map(text).collect()
}

#[tokio::test(start_paused = true)]
async fn each_request_gets_its_tenants_token() {
    let scripts = Scripts::<u32>::new(Step::Take(secs(1), Box::new(Step::Token(HOUR))));
    let pool = scripts.spawn();
    let api = Api::new();
    let client = layer(&pool).layer(api.clone());
    let mut requests = JoinSet::new();
    for n in 0..1000 {
        let client = client.clone();
        requests
            .spawn(async move { send(&client, get(API, Some(n % 10))).await.unwrap().status() });
    }
    assert!(requests.join_all().await.iter().all(|status| *status == 200));
    for (tenant, authorization) in sent(&api) {
        let tenant = tenant.unwrap();
        assert_eq!(authorization, Some(format!("Bearer {tenant}/token-1")));
    }
    assert_eq!((api.count(), scripts.count()), (1000, 10));
    assert!(api.seen().iter().all(|seen| seen.headers["authorization"].is_sensitive()));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_names_no_tenant_follows_the_policy() {
    let scripts = Scripts::<u32>::tokens(HOUR);
    let pool = scripts.spawn();
    let api = Api::new();
    let client = layer(&pool).layer(api.clone());
    let error = send(&client, get(API, None)).await.unwrap_err();
    assert_eq!(kind(&error), ErrorKind::NoKey);
    assert!(!Error::find(&*error).unwrap().is_retryable());
    assert_eq!(api.count(), 0);

    let client = layer(&pool).missing_key(MissingKey::PassWithoutToken).layer(api.clone());
    send(&client, get(API, None)).await.unwrap();
    assert_eq!(sent(&api), [(None, None)]);
    assert!(pool.is_empty());
}

#[tokio::test(start_paused = true)]
async fn inj_02_inj_03_origins_and_headers_are_judged_as_by_the_other_layer() {
    let scripts = Scripts::<u32>::tokens(HOUR);
    let pool = scripts.spawn();
    let api = Api::new();
    let foreign = "https://evil.example/";
    send(&layer(&pool).layer(api.clone()), get(foreign, Some(1))).await.unwrap();
    assert_eq!(api.seen()[0].authorization(), None);
    let client = layer(&pool).foreign_origin(ForeignOrigin::Refuse).layer(api.clone());
    assert_eq!(kind(&send(&client, get(foreign, Some(1))).await.unwrap_err()), ErrorKind::Origin);
    assert!(pool.is_empty(), "no token was fetched for them");

    let mut request = get(API, Some(1));
    request.headers_mut().insert("authorization", "Basic YTpi".parse().unwrap());
    send(&layer(&pool).layer(api.clone()), request.clone()).await.unwrap();
    assert_eq!(api.seen()[1].authorization(), Some("Basic YTpi"));
    let client =
        layer(&pool).existing_authorization(ExistingAuthorization::Replace).layer(api.clone());
    send(&client, request).await.unwrap();
    assert_eq!(api.seen()[2].authorization(), Some("Bearer 1/token-1"));
}

#[tokio::test(start_paused = true)]
async fn f16_a_refused_token_is_renewed_for_its_tenant_alone_and_the_request_sent_again() {
    let scripts = Scripts::<u32>::tokens(HOUR);
    let pool = scripts.spawn();
    let api = Api::new();
    api.accept(|token| token != "Bearer 1/token-1");
    let client = layer(&pool).replay(CloneRequest).layer(api.clone());
    for _ in 0..10 {
        for tenant in [1, 2] {
            let response = send(&client, get(API, Some(tenant))).await.unwrap();
            assert_eq!(response.status(), 200);
        }
    }
    assert_eq!((scripts.of(&1).count(), scripts.of(&2).count()), (2, 1));
    assert_eq!(api.count(), 21);
    // Without replay the caller gets the refusal, and the next request a fresh token.
    api.accept(|token| token != "Bearer 2/token-1");
    let client = layer(&pool).layer(api.clone());
    assert_eq!(send(&client, get(API, Some(2))).await.unwrap().status(), 401);
    assert_eq!(send(&client, get(API, Some(2))).await.unwrap().status(), 200);
    assert_eq!((scripts.of(&1).count(), scripts.of(&2).count()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn f16_a_request_that_is_sent_again_is_told_as_its_tenants() {
    let scripts = Scripts::<u32>::tokens(HOUR);
    let told = Arc::new(Mutex::new(Vec::new()));
    let observer = {
        let told = told.clone();
        move |tenant: &u32, event: &Event<'_>| {
            if let Event::Replayed { status } = event {
                told.lock().unwrap().push((*tenant, *status));
            }
        }
    };
    let pool = scripts.builder().tenant_observer(observer).spawn();
    let api = Api::new();
    api.accept(|token| token != "Bearer 2/token-1");
    let client = layer(&pool).replay(CloneRequest).layer(api.clone());
    for tenant in [1, 2, 1] {
        assert_eq!(send(&client, get(API, Some(tenant))).await.unwrap().status(), 200);
    }
    assert_eq!(*told.lock().unwrap(), [(2, 200)]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_for_a_tenant_that_was_removed_meanwhile_is_the_answer() {
    let scripts = Scripts::<u32>::tokens(HOUR);
    let pool = scripts.spawn();
    let api = Api::new();
    api.accept(|_| false).delay(secs(5));
    let client = layer(&pool).replay(CloneRequest).layer(api.clone());
    pool.token(&1).await.unwrap();
    let request = tokio::spawn(async move { send(&client, get(API, Some(1))).await });
    tokio::time::sleep(secs(1)).await;
    pool.remove(&1);
    let fresh = pool.token(&1).await.unwrap().epoch();
    assert_eq!(request.await.unwrap().unwrap().status(), 401);
    assert_eq!(pool.token(&1).await.unwrap().epoch(), fresh, "the new tenant keeps its token");
}

/// Answers at once, and allocates nothing.
#[derive(Clone)]
struct Bare;

impl Service<Request<()>> for Bare {
    type Response = Response<()>;
    type Error = std::convert::Infallible;
    type Future = Ready<Result<Response<()>, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        assert!(request.headers().contains_key("authorization"));
        ready(Ok(Response::new(())))
    }
}

#[tokio::test]
async fn a_request_with_a_token_at_hand_allocates_nothing_and_does_not_wait() {
    let pool = Scripts::<u32>::tokens(HOUR).spawn();
    for key in 0..100 {
        pool.token(&key).await.unwrap();
    }
    let key =
        |request: &Request<()>| request.extensions().get::<()>().map_or(Some(7_u32), |()| None);
    let mut kept = OAuthLayer::keyed(pool.clone(), API.parse().unwrap(), key).layer(Bare);
    let cloned = kept.clone();
    let request = || {
        let mut request = Request::get(API).body(()).unwrap();
        *request.headers_mut() = HeaderMap::with_capacity(8);
        request
    };
    let send = |service: &mut dyn FnMut() -> bool| {
        assert!(service());
        measure(|| (0..100).for_each(|_| assert!(service()))).count_total
    };
    let mut cx = Context::from_waker(Waker::noop());
    let building = send(&mut || request().headers().is_empty());
    let once = |service: &mut dyn FnMut(Request<()>) -> bool| send(&mut || service(request()));
    let kept = once(&mut |request| {
        assert!(kept.poll_ready(&mut cx).is_ready());
        std::pin::pin!(kept.call(request)).poll(&mut cx).is_ready()
    });
    let cloned = once(&mut |request| {
        let mut service = cloned.clone();
        assert!(service.poll_ready(&mut cx).is_ready());
        std::pin::pin!(service.call(request)).poll(&mut cx).is_ready()
    });
    assert_eq!(kept, building, "a service that is kept");
    assert_eq!(cloned, building, "a service that is cloned for each request");
}

#[tokio::test(start_paused = true)]
async fn f80_f81_a_request_without_a_token_is_reported_with_its_reason() {
    let scripts = Scripts::<u32>::new(Step::Token(HOUR));
    let reasons = Arc::new(Mutex::new(Vec::new()));
    let seen = reasons.clone();
    let pool = scripts
        .builder()
        .observer(move |event: &Event<'_>| {
            if let Event::PassedWithoutToken { reason, .. } = event {
                seen.lock().unwrap().push(reason.as_str());
            }
        })
        .spawn();
    let api = Api::new();
    let client = layer(&pool).missing_key(MissingKey::PassWithoutToken).layer(api.clone());
    let mut own = get(API, Some(1));
    own.headers_mut().insert("authorization", "Basic abc".parse().unwrap());
    let mut trace = get(API, Some(1));
    *trace.method_mut() = http::Method::TRACE;
    let mut bound = get("/a", Some(1));
    bound.headers_mut().insert("host", "evil.example".parse().unwrap());
    let foreign = get("https://evil.example", Some(1));
    for request in [get(API, None), foreign, own, trace, bound, get(API, Some(1))] {
        send(&client, request).await.unwrap();
    }
    let expected =
        ["no_key", "foreign_origin", "authorization_present", "method", "foreign_origin"];
    assert_eq!(*reasons.lock().unwrap(), expected);
    let with_token =
        |(_, token): &(_, Option<String>)| token.as_deref() == Some("Bearer 1/token-1");
    assert_eq!(
        sent(&api).iter().map(with_token).collect::<Vec<_>>(),
        [false, false, false, false, false, true]
    );
}
