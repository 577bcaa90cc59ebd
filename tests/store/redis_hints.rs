//! Hints over a real Redis server: lost, doubled, forbidden, and after the connection broke.

use std::{process::Command, time::Duration};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tower_oauth::{
    FetchContext, TokenHandle, TokenSource as _,
    observe::FetchReason,
    store::{Persisted, RedisStore, RedisStoreBuilder},
    testing::AuthorizationServer,
};

use crate::{
    harness::{Events, client_credentials, strict},
    processes::until,
    redis_server::RedisServer,
    temporary::ring,
};

struct Replica {
    tokens: TokenHandle,
    events: Events,
}

impl Replica {
    async fn start(server: &AuthorizationServer, url: &str) -> Self {
        Self::with(server, "", RedisStore::builder(url, ring())).await
    }

    async fn with(server: &AuthorizationServer, subject: &str, store: RedisStoreBuilder) -> Self {
        let events = Events::default();
        let source = Persisted::new(client_credentials(server), store.build().unwrap());
        let source = source.subject(subject).observer(events.observer());
        let tokens = TokenHandle::builder(source).observer(events.observer()).spawn();
        tokens.ready().await.unwrap();
        Self { tokens, events }
    }

    fn token(&self) -> String {
        self.tokens.current().unwrap().access_token().expose().to_owned()
    }

    async fn renew(&self) -> String {
        self.tokens.refresh().await.unwrap().access_token().expose().to_owned()
    }

    /// Has this token long before its own would be due.
    async fn adopts(&self, token: &str) {
        until("to adopt", || self.token() == token).await;
    }
}

/// Until as many connections listen.
async fn subscribers(redis: &RedisServer, count: usize) {
    until("to listen", || {
        let channels = redis.cli(&["PUBSUB", "CHANNELS"]);
        let Some(channel) = channels.lines().next() else { return count == 0 };
        redis.cli(&["PUBSUB", "NUMSUB", channel]).lines().nth(1) == Some(&*count.to_string())
    })
    .await;
}

fn channel(redis: &RedisServer) -> String {
    redis.cli(&["PUBSUB", "CHANNELS"])
}

/// How many records were read.
fn reads(redis: &RedisServer) -> usize {
    let stats = redis.cli(&["INFO", "commandstats"]);
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_hget:calls="));
    line.and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn f46_what_one_replica_renews_all_have_at_once_with_one_token_request() {
    for redis in [RedisServer::start(), RedisServer::with_tls()] {
        let server = strict();
        let start = async || {
            let mut store = RedisStore::builder(redis.url(), ring());
            if redis.url().starts_with("rediss") {
                store = store.root_certificate(redis.certificate());
            }
            Replica::with(&server, "", store).await
        };
        let first = start().await;
        let others = [start().await, start().await, start().await];
        subscribers(&redis, 4).await;
        server.reset_ledger();
        let started = Instant::now();
        let token = first.renew().await;
        for other in &others {
            other.adopts(&token).await;
        }
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
        assert_eq!(server.token_request_count(), 1);
        assert_eq!(first.token(), token);
    }
}

#[tokio::test]
async fn f46_a_subscriber_whose_connection_breaks_comes_back_and_looks_what_it_missed() {
    let (mut redis, server) = (RedisServer::start(), strict());
    let first = Replica::start(&server, &redis.url()).await;
    let second = Replica::start(&server, &redis.url()).await;
    subscribers(&redis, 2).await;
    server.reset_ledger();
    for round in 1..=2 {
        redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        // What is said now is heard by nobody.
        let token = first.renew().await;
        second.adopts(&token).await;
        subscribers(&redis, 2).await;
        second.adopts(&first.renew().await).await;
        assert_eq!(server.token_request_count(), round * 2);
    }
    // And when all of Redis was away.
    redis.stop();
    sleep(Duration::from_millis(500)).await;
    redis.resume();
    subscribers(&redis, 2).await;
    second.adopts(&first.renew().await).await;
    assert_eq!(server.token_request_count(), 5);
    assert_eq!(second.events.count("Failed"), 0, "{}", second.events.all());
}

/// A way to a server that can be lost: nothing passes any more over the connections that there are,
/// and nobody closes them.
struct Way {
    url: String,
    lost: watch::Sender<()>,
}

impl Way {
    #[allow(clippy::disallowed_methods, reason = "tests spawn")]
    async fn to(redis: &RedisServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        let (lost, port) = (watch::Sender::new(()), redis.port());
        let until_lost = lost.subscribe();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut until_lost = until_lost.clone();
                until_lost.mark_unchanged();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = until_lost.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { url, lost }
    }

    fn lose(&self) {
        self.lost.send_replace(());
    }
}

/// One call finds it out, or whoever does not wait for its end.
#[tokio::test]
async fn f43_a_way_to_redis_that_is_lost_costs_one_call() {
    let (redis, server) = (RedisServer::start(), strict());
    let way = Way::to(&redis).await;
    let store = RedisStore::builder(&*way.url, ring()).build().unwrap();
    let source = Persisted::new(client_credentials(&server), store.clone());
    let mut cx = FetchContext::first();
    for patience in [Duration::from_secs(10), Duration::from_millis(100)] {
        source.fetch(cx.clone()).await.unwrap();
        way.lose();
        cx.reason = FetchReason::Requested;
        let forgotten = timeout(patience, source.forget()).await;
        assert!(!forgotten.is_ok_and(|forgotten| forgotten.is_ok()), "the way was not lost");
        source.forget().await.unwrap();
    }
}

/// Half a minute, in which nothing is heard and nothing is noticed either.
#[tokio::test]
async fn f46_a_way_to_redis_that_is_lost_without_a_word_is_noticed() {
    let (redis, server) = (RedisServer::start(), strict());
    let way = Way::to(&redis).await;
    let first = Replica::start(&server, &redis.url()).await;
    let second = Replica::start(&server, &way.url).await;
    subscribers(&redis, 2).await;
    server.reset_ledger();
    way.lose();
    let token = first.renew().await;
    let started = Instant::now();
    while second.token() != token {
        // By itself it would look for another one only when its own is due.
        assert!(started.elapsed() < Duration::from_secs(50), "it hears nothing");
        sleep(Duration::from_millis(50)).await;
    }
    assert!(started.elapsed() > Duration::from_secs(10), "the way was not lost");
    assert_eq!(server.token_request_count(), 1);
}

#[tokio::test]
async fn f46_messages_that_are_doubled_reordered_or_bogus_cause_no_token_request_and_few_reads() {
    let (redis, server) = (RedisServer::start(), strict());
    let first = Replica::start(&server, &redis.url()).await;
    let second = Replica::start(&server, &redis.url()).await;
    subscribers(&redis, 2).await;
    let token = first.renew().await;
    second.adopts(&token).await;
    subscribers(&redis, 2).await;
    server.reset_ledger();
    let channel = channel(&redis);
    let before = reads(&redis);
    for message in ["1", "2", "2", "1", "0", "-1", "", "hello", "1e9", "18446744073709551616"] {
        redis.cli(&["PUBLISH", &channel, message]);
    }
    let long = "9".repeat(100_000);
    redis.cli(&["PUBLISH", &channel, &long]);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(reads(&redis), before, "there was nothing new in them");
    // A flood of what may be true: a look now and then.
    let mut flood = Command::new("redis-cli");
    flood.args(["-p", &redis.port().to_string(), "-r", "2000"]);
    flood.args(["PUBLISH", &channel, "9999999999"]).stdout(std::process::Stdio::null());
    let mut flood = flood.spawn().unwrap();
    let started = Instant::now();
    until("the end of the flood", || flood.try_wait().unwrap().is_some()).await;
    sleep(Duration::from_secs(3).saturating_sub(started.elapsed())).await;
    let (looks, seconds) =
        (reads(&redis) - before, usize::try_from(started.elapsed().as_secs()).unwrap());
    assert!((2..=2 * (2 + seconds)).contains(&looks), "{looks} reads in {seconds} s");
    assert_eq!((first.token(), second.token()), (token.clone(), token));
    assert_eq!(server.token_request_count(), 0);
    // And what is true is still heard.
    let token = first.renew().await;
    second.adopts(&token).await;
    assert_eq!(server.token_request_count(), 1);
}

#[tokio::test]
async fn f46_who_may_neither_say_nor_hear_anything_stores_and_finds_it_all_the_same() {
    let (redis, server) = (RedisServer::start(), strict());
    server.lifetime(Duration::from_secs(4));
    let set = ["on", ">pw", "~*", "+@all", "resetchannels"];
    let user = ["ACL", "SETUSER", "mute"].into_iter().chain(set).collect::<Vec<_>>();
    assert_eq!(redis.cli(&user), "OK");
    let url = format!("redis://mute:pw@127.0.0.1:{}", redis.port());
    let first = Replica::start(&server, &url).await;
    let second = Replica::start(&server, &url).await;
    server.reset_ledger();
    let token = first.renew().await;
    assert_eq!(first.events.count("Saved"), 2, "{}", first.events.all());
    assert_ne!(second.token(), token, "it was told");
    assert_eq!(redis.cli(&["PUBSUB", "CHANNELS"]), "");
    // When its own is due, it looks.
    second.adopts(&token).await;
    assert_eq!(server.token_request_count(), 1);
    assert_eq!(second.events.count("StoreFailed"), 0, "{}", second.events.all());
}

#[tokio::test]
async fn f46_handles_of_one_store_share_a_connection_whichever_of_them_end() {
    let (redis, server) = (RedisServer::start(), strict());
    let store = RedisStore::builder(redis.url(), ring()).build().unwrap();
    let start = |subject: &str| {
        let source = Persisted::new(client_credentials(&server), store.clone()).subject(subject);
        TokenHandle::spawn(source)
    };
    let mut handles: Vec<_> = (0..10).map(|i| start(&i.to_string())).collect();
    for tokens in &handles {
        tokens.ready().await.unwrap();
    }
    let channels = || redis.cli(&["PUBSUB", "CHANNELS"]).lines().count();
    until("to listen", || channels() == 10).await;
    let clients = redis.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]);
    assert_eq!(clients.lines().count(), 1, "{clients}");
    // Also the one that reads for all of them.
    handles.drain(..5);
    let other = Replica::with(&server, "9", RedisStore::builder(redis.url(), ring())).await;
    let token = other.renew().await;
    let last = handles.last().unwrap();
    until("to adopt", || last.current().unwrap().access_token().expose() == token).await;
    // What nobody asks for is not listened to for ever.
    handles.push(start("one more"));
    until("to listen to less", || channels() == 6).await;
}
