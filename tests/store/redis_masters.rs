//! Redis servers that change their parts: a replica that becomes the master, and two masters.

use std::sync::Arc;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tower_oauth::{
    FetchContext, TokenSet, TokenSource,
    observe::FetchReason,
    source::Identified,
    store::{Persisted, RedisStore},
};

use crate::{
    harness::{client_credentials, refresh, sent, strict},
    processes::until,
    redis_server::RedisServer,
    temporary::ring,
};

/// The name by which clients know a server, whichever it is.
struct Address {
    port: u16,
    target: watch::Sender<u16>,
    _connections: JoinSet<()>,
}

impl Address {
    async fn of(server: &RedisServer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (target, seen) = watch::channel(server.port());
        let mut all = JoinSet::new();
        all.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let mut seen = seen.clone();
                connections.spawn(async move {
                    let port = *seen.borrow_and_update();
                    let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)).await else {
                        return;
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut client, &mut server) => {}
                        _ = seen.changed() => {}
                    }
                });
            }
        });
        Self { port, target, _connections: all }
    }

    fn lead_to(&self, server: &RedisServer) {
        self.target.send(server.port()).unwrap();
    }

    fn start<P: Identified>(&self, source: P) -> Persisted<P, RedisStore> {
        let url = format!("redis://127.0.0.1:{}", self.port);
        Persisted::new(source, RedisStore::builder(url, ring()).build().unwrap())
    }
}

async fn fetch(
    source: &impl TokenSource,
    previous: Option<&TokenSet>,
    reason: FetchReason,
) -> TokenSet {
    let mut cx = FetchContext::first();
    cx.previous = previous.map(|token| Arc::new(token.clone()));
    cx.reason = reason;
    source.fetch(cx).await.unwrap()
}

/// The generation that is stored; nothing if there is none.
fn generation(redis: &RedisServer) -> String {
    match &*redis.cli(&["KEYS", "tower-oauth:*}"]) {
        "" => String::new(),
        name => redis.cli(&["HGET", name, "g"]),
    }
}

/// The master acknowledges a rotated token, and is killed before it has passed that on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f44_what_a_failover_lost_is_written_back() {
    let mut master = RedisServer::start();
    let replica = RedisServer::replica(&master);
    let (address, server) = (Address::of(&master).await, strict());
    let initial = server.issue_refresh_token("cli");
    let source = address.start(refresh(&server, &*initial));
    let first = fetch(&source, None, FetchReason::Initial).await;
    until("the copy", || generation(&replica) == "1").await;
    // Cut off: nothing is passed on any more.
    replica.cli(&["REPLICAOF", "127.0.0.1", "1"]);
    let second = fetch(&source, Some(&first), FetchReason::Requested).await;
    assert_eq!((&*generation(&master), &*generation(&replica)), ("2", "1"));
    master.stop(); // SIGKILL
    replica.cli(&["REPLICAOF", "NO", "ONE"]);
    address.lead_to(&replica);
    // The newest is spent, not the one that the new master has.
    let third = fetch(&source, Some(&second), FetchReason::Due).await;
    assert_eq!(generation(&replica), "3");
    assert_ne!(third.access_token(), first.access_token());
    let newest = second.refresh_token().unwrap().expose();
    assert_eq!(sent(&server).last().unwrap(), newest);
    let other = address.start(refresh(&server, &*initial));
    let adopted = fetch(&other, None, FetchReason::Initial).await;
    assert_eq!(adopted.access_token(), third.access_token());
    assert_eq!(server.token_request_count(), 3);
    assert!(!server.reuse_detected());
}

/// Two masters, with two processes at each, which are one again after some lifetimes. The grant
/// spends nothing: for a rotating refresh token, two masters are not safe.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f45_two_masters_make_two_token_requests_a_lifetime_until_they_are_one() {
    for ahead_is_here in [true, false] {
        let (here, there) = (RedisServer::start(), RedisServer::start());
        let (one, two) = (Address::of(&here).await, Address::of(&there).await);
        let server = strict();
        let mut sources = [&one, &one, &two, &two]
            .map(|address| (address.start(client_credentials(&server)), None::<TokenSet>));
        // A lifetime: each finds its token due.
        let renew = async |sources: &mut [(_, Option<TokenSet>)]| {
            let before = server.token_request_count();
            for (source, token) in sources {
                let reason = if token.is_some() { FetchReason::Due } else { FetchReason::Initial };
                *token = Some(fetch(source, token.as_ref(), reason).await);
            }
            server.token_request_count() - before
        };
        for _ in 0..3 {
            assert_eq!(renew(&mut sources).await, 2);
        }
        let ahead = if ahead_is_here { 0..2 } else { 2..4 };
        for _ in 0..2 {
            assert_eq!(renew(&mut sources[ahead.clone()]).await, 1);
        }
        let expected = if ahead_is_here { ("5", "3") } else { ("3", "5") };
        assert_eq!((&*generation(&here), &*generation(&there)), expected);

        // They are one again, and what the second one had is gone.
        two.lead_to(&here);
        assert!(renew(&mut sources).await <= 2);
        // What was ahead has won: it was gone on with, wherever it was.
        assert_eq!(generation(&here), "6");
        for _ in 0..2 {
            assert!(renew(&mut sources).await <= 1);
        }
        let before = server.token_request_count();
        let mut tokens = Vec::new();
        for (source, _) in &sources {
            let token = fetch(source, None, FetchReason::Initial).await;
            tokens.push(token.access_token().clone());
        }
        tokens.dedup();
        assert_eq!((tokens.len(), server.token_request_count()), (1, before));
    }
}
