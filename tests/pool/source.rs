//! Sources that echo their tenant, and count.

use std::{
    collections::HashMap,
    fmt::Display,
    hash::Hash,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tower_oauth::{Error, FetchContext, TokenPool, TokenSet, TokenSource, pool::TokenPoolBuilder};

use crate::common::script::{Script, Step};

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A script for each tenant, whose tokens begin with the tenant's key: `acme/token-1`.
pub(crate) struct Scripts<K> {
    otherwise: Step,
    by_key: Arc<Mutex<HashMap<K, Script>>>,
    gauge: Arc<Gauge>,
}

/// How many fetches run, and how many did at most.
#[derive(Default)]
pub(crate) struct Gauge {
    now: AtomicUsize,
    pub(crate) peak: AtomicUsize,
    pub(crate) made: AtomicUsize,
}

impl<K: Hash + Eq + Clone + Display + Send + Sync + 'static> Scripts<K> {
    pub(crate) fn new(otherwise: Step) -> Self {
        Self { otherwise, by_key: Arc::default(), gauge: Arc::default() }
    }

    pub(crate) fn tokens(lifetime: Duration) -> Self {
        Self::new(Step::Token(lifetime))
    }

    /// The script of a tenant, which may not be there yet.
    pub(crate) fn of(&self, key: &K) -> Script {
        let mut scripts = self.by_key.lock().unwrap();
        scripts.entry(key.clone()).or_insert_with(|| Script::new(self.otherwise.clone())).clone()
    }

    /// How many fetches have started, of all tenants.
    pub(crate) fn count(&self) -> usize {
        self.by_key.lock().unwrap().values().map(Script::count).sum()
    }

    pub(crate) fn gauge(&self) -> &Gauge {
        &self.gauge
    }

    pub(crate) fn builder(&self) -> TokenPoolBuilder<K> {
        let this = self.clone();
        TokenPool::builder(move |key: &K| {
            this.gauge.made.fetch_add(1, Ordering::Relaxed);
            Echo { script: this.of(key), key: key.to_string(), gauge: this.gauge.clone() }
        })
    }

    pub(crate) fn spawn(&self) -> TokenPool<K> {
        self.builder().spawn()
    }
}

impl<K> Clone for Scripts<K> {
    fn clone(&self) -> Self {
        let (by_key, gauge) = (self.by_key.clone(), self.gauge.clone());
        Self { otherwise: self.otherwise.clone(), by_key, gauge }
    }
}

struct Echo {
    script: Script,
    key: String,
    gauge: Arc<Gauge>,
}

impl TokenSource for Echo {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        // What one tenant had is never handed to another one.
        if let Some(previous) = &cx.previous {
            let token = previous.access_token().expose();
            assert!(token.starts_with(&format!("{}/", self.key)), "{token} handed to {}", self.key);
        }
        let _running = Running::start(&self.gauge);
        let token = self.script.fetch(cx).await?;
        let echo = TokenSet::bearer(format!("{}/{}", self.key, token.access_token().expose()))?;
        Ok(match token.lifetime() {
            Some(lifetime) => echo.with_lifetime(lifetime),
            None => echo,
        })
    }
}

struct Running<'a>(&'a Gauge);

impl<'a> Running<'a> {
    fn start(gauge: &'a Gauge) -> Self {
        let now = gauge.now.fetch_add(1, Ordering::Relaxed) + 1;
        gauge.peak.fetch_max(now, Ordering::Relaxed);
        Self(gauge)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Lets every task run that can.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

pub(crate) async fn value<K>(pool: &TokenPool<K>, key: &K) -> String
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
{
    pool.token(key).await.unwrap().access_token().expose().to_owned()
}
