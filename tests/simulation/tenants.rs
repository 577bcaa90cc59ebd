//! A pool of tenants, behind one layer.

use std::{sync::Mutex, time::Duration};

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::task::JoinSet;
use tower::util::BoxCloneSyncService;
use tower_layer::Layer;
use tower_oauth::{CloneRequest, OAuthLayer, TokenPool, Transport, observe::Event};

use crate::{
    api::{Api, ORIGIN},
    caller::Caller,
    crowd::Source,
    issuer::{Book, Issuer},
    ledger::{Cause, Instance, Key, MOST_WAITING_FOR_TENANT},
    probe::{Life, Probe},
    process::{client_credentials, note},
    upload::Upload,
    world::World,
};

/// A pool with a tenant for each of some keys.
pub(crate) struct Tenants {
    world: World,
    pub(crate) pool: TokenPool<Key>,
    pub(crate) callers: Vec<Caller>,
    requests: Mutex<JoinSet<()>>,
}

impl Tenants {
    pub(crate) fn new(world: &World, book: &Book, keys: std::ops::Range<Key>) -> Self {
        let (first, base) = (keys.start, {
            let mut ledger = world.ledger();
            for key in keys.clone() {
                ledger.instances.push(Instance { key, pooled: true, ..Instance::default() });
            }
            ledger.instances.len() - keys.len()
        });
        let instance_of = move |key: Key| base + (key - first);
        let wait = Duration::from_secs(20);
        let (seer, shelf) = (world.clone(), book.clone());
        let makers: Vec<_> = keys.clone().map(|_| world.fork()).collect();
        let extra = keys.end;
        let pool = TokenPool::builder(move |key: &Key| {
            if *key >= extra {
                return Source::extra(*key);
            }
            let (instance, maker) = (instance_of(*key), &makers[key - first]);
            let issuer = Issuer::new(maker, &shelf, instance);
            let source =
                client_credentials(&shelf, *key, Transport::new::<_, Full<Bytes>, _>(issuer));
            let (world, life) = (maker.clone(), Life::default());
            Source::Probed(Probe { source, world, instance, key: *key, life })
        })
        .clock(world.clock().clone())
        .max_waiting_per_tenant(MOST_WAITING_FOR_TENANT)
        .tenant_observer(move |key, event: &Event<'_>| {
            if *key < extra {
                note(&seer, instance_of(*key), event);
            }
        })
        .spawn();
        let tenant = |request: &Request<Upload>| {
            request.headers().get("x-key")?.to_str().ok()?.parse::<Key>().ok()
        };
        let layer = OAuthLayer::keyed(pool.clone(), ORIGIN.parse().unwrap(), tenant);
        let client = layer.wait(wait).replay(CloneRequest).layer(Api::new(&world.fork(), book));
        let client = BoxCloneSyncService::new(client);
        let callers = keys.map(|key| {
            let (world, client, instance) = (world.fork(), client.clone(), instance_of(key));
            let (sends, streams) = (2, false);
            Caller { world, client, instance, key, sends, streams, wait, number: 0.into() }
        });
        let callers = callers.collect();
        Self { world: world.clone(), pool, callers, requests: Mutex::default() }
    }

    /// Sends a request for one of the tenants.
    pub(crate) fn spawn_request(&self, tenant: usize) {
        let mut requests = self.requests.lock().unwrap();
        while requests.try_join_next().is_some() {}
        let caller = self.callers[tenant].next();
        requests.spawn(async move {
            caller.request().await;
        });
    }

    /// Forgets a tenant, unless it is being looked after.
    pub(crate) fn remove(&self, tenant: usize) {
        let caller = &self.callers[tenant];
        if self.pool.status(&caller.key).is_some_and(|status| status.is_fetching()) {
            return;
        }
        {
            let mut ledger = self.world.ledger();
            ledger.say(format!("the tenant of key {} is removed", caller.key));
            ledger.count("tenant removed");
            ledger.credit(caller.key, Cause::Started);
            let holder = &mut ledger.instances[caller.instance];
            (holder.held, holder.removed) = (None, true);
        }
        self.pool.remove(&caller.key);
    }
}
