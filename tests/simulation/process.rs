//! Clients of the crate: a handle with a layer, which may be one of several that share a store.

use std::{
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::Full;
use tokio::{task::JoinSet, time::sleep};
use tower::util::BoxCloneSyncService;
use tower_layer::Layer;
use tower_oauth::{
    Buffered, ClientAuth, ClientCredentials, CloneRequest, OAuthLayer, RefreshToken, Secret,
    SecretSource, TokenHandle, TokenSource, Transport,
    observe::Event,
    source::Identified,
    store::{Persisted, WithoutStore},
};

use crate::{
    api::{Api, ORIGIN},
    caller::{Caller, Client},
    issuer::{Book, ENDPOINT, Issuer},
    ledger::{Instance, Key, MOST_WAITING},
    probe::{Life, Probe},
    store::SharedStore,
    world::World,
};

/// What is done with a request whose token was refused.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Replays {
    Never,
    Clones,
    Buffers,
}

/// How a client is set up, again and again.
pub(crate) struct Seat {
    pub(crate) world: World,
    pub(crate) book: Book,
    pub(crate) key: Key,
    pub(crate) replays: Replays,
    pub(crate) store: Option<SharedStore>,
    /// Whether the record has the name of its subject.
    pub(crate) named: bool,
    pub(crate) step_up: bool,
    pub(crate) wait: Duration,
    process: Mutex<Option<Process>>,
}

/// A running client.
pub(crate) struct Process {
    pub(crate) tokens: TokenHandle,
    pub(crate) caller: Caller,
    pub(crate) life: Life,
    requests: JoinSet<()>,
}

impl Seat {
    pub(crate) fn new(world: &World, book: &Book, key: Key, replays: Replays) -> Self {
        let dice = world.dice();
        Self {
            world: world.fork(),
            book: book.clone(),
            key,
            replays,
            store: None,
            named: false,
            step_up: dice.chance(0.3),
            wait: dice.seconds(1.0, 30.0),
            process: Mutex::new(None),
        }
    }

    /// Its tokens are kept in a store, perhaps under the name of their subject.
    pub(crate) fn with_store(self, store: SharedStore, named: bool) -> Self {
        Self { store: Some(store), named, ..self }
    }

    pub(crate) fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap()
    }

    /// Whether it may be stopped without losing a session by that alone.
    pub(crate) fn may_stop(&self) -> bool {
        self.store.is_some() || !self.book.rotates(self.key)
    }

    pub(crate) fn start(&self) {
        let instance = {
            let mut ledger = self.world.ledger();
            let persisted = self.store.is_some();
            ledger.keys.entry(self.key).or_default().persisted = persisted;
            ledger.instances.push(Instance { key: self.key, persisted, ..Instance::default() });
            ledger.instances.len() - 1
        };
        let issuer = Issuer::new(&self.world.fork(), &self.book, instance);
        let transport = Transport::new::<_, Full<Bytes>, _>(issuer);
        let life = Life::default();
        let tokens = if self.book.rotates(self.key) {
            let (book, key) = (self.book.clone(), self.key);
            let initial = provider(move || book.initial(key));
            let source = RefreshToken::builder(ENDPOINT, auth(&self.book, key), initial);
            let source = source.transport(transport).build().unwrap();
            self.persist(source, instance, &life)
        } else {
            let source = client_credentials(&self.book, self.key, transport);
            self.persist(source, instance, &life)
        };
        let client = self.client(&tokens);
        let sends = if let Replays::Never = self.replays { 1 } else { 2 };
        let streams = matches!(self.replays, Replays::Buffers);
        let (world, key, wait) = (self.world.fork(), self.key, self.wait);
        let caller =
            Caller { world, client, instance, key, sends, streams, wait, number: 0.into() };
        let process = Process { tokens, caller, life, requests: JoinSet::new() };
        self.world.ledger().say(format!("{instance} starts, for key {key}"));
        *self.process() = Some(process);
    }

    fn persist(&self, source: impl Identified, instance: usize, life: &Life) -> TokenHandle {
        match &self.store {
            None => self.handle(source, instance, life),
            Some(store) => {
                let world = self.world.clone();
                let mut persisted = Persisted::new(source, store.for_process())
                    .observer(move |event: &Event<'_>| {
                        let name = format!("{event:?}");
                        world.ledger().say(format!("{instance}: {}", name.lines().next().unwrap()));
                    })
                    .lock_wait(Duration::from_secs(8))
                    .without_store(WithoutStore::Wait);
                if self.named {
                    persisted = persisted.subject("somebody");
                }
                self.handle(persisted, instance, life)
            }
        }
    }

    fn handle(&self, source: impl TokenSource, instance: usize, life: &Life) -> TokenHandle {
        let world = self.world.clone();
        let probe =
            Probe { source, world: world.clone(), instance, key: self.key, life: life.clone() };
        TokenHandle::builder(probe)
            .clock(self.world.clock().clone())
            .wait(self.wait)
            .max_waiting(MOST_WAITING)
            .observer(move |event: &Event<'_>| note(&world, instance, event))
            .spawn()
    }

    fn client(&self, tokens: &TokenHandle) -> Client {
        let mut layer = OAuthLayer::new(tokens.clone(), ORIGIN.parse().unwrap()).wait(self.wait);
        if self.step_up {
            layer = layer.step_up();
        }
        let api = Api::new(&self.world.fork(), &self.book);
        match self.replays {
            Replays::Never => BoxCloneSyncService::new(layer.layer(api)),
            Replays::Clones => BoxCloneSyncService::new(layer.replay(CloneRequest).layer(api)),
            Replays::Buffers => {
                BoxCloneSyncService::new(layer.replay(Buffered::up_to(1000)).layer(api))
            }
        }
    }

    /// Restarts the process whenever it dies.
    pub(crate) async fn watch(self: Arc<Self>) {
        loop {
            let life = self.process().as_ref().map(|process| process.life.clone());
            if let Some(life) = life {
                life.ended().await;
                if !life.is_over() {
                    continue; // only the handle was made anew
                }
                self.stop();
                if !self.world.is_calm() {
                    sleep(self.world.dice().seconds(0.1, 600.0)).await;
                }
            }
            self.start();
        }
    }

    /// Drops all that the process has.
    fn stop(&self) {
        let process = self.process().take();
        let Some(mut process) = process else { return };
        process.requests.abort_all();
        let instance = process.caller.instance;
        let mut ledger = self.world.ledger();
        if ledger.instances[instance].gone {
            // Those that began between its end and now.
            ledger.abandoned(instance);
        } else {
            ledger.crashed(instance);
        }
        drop(ledger);
    }

    /// The handle is dropped and made anew; requests under way keep the old one.
    pub(crate) fn recreate(&self) {
        let process = self.process().take();
        let Some(mut process) = process else { return };
        process.requests.detach_all();
        self.world.ledger().left(process.caller.instance);
        let life = process.life.clone();
        drop(process);
        self.start();
        life.tell();
    }

    /// Sends a request, on a task of its own; the process' end is its end.
    pub(crate) fn spawn_request(&self) {
        let mut process = self.process();
        let Some(process) = &mut *process else { return };
        while process.requests.try_join_next().is_some() {}
        // Of those that wait at a handle, tokio decides which one tries a refused token.
        if self.book.repeats(self.key) && !process.requests.is_empty() {
            return;
        }
        let caller = process.caller.next();
        process.requests.spawn(async move {
            caller.request().await;
        });
    }
}

fn auth(book: &Book, key: Key) -> ClientAuth {
    let book = book.clone();
    ClientAuth::basic(format!("client-{key}"), provider(move || book.secret(key)))
}

pub(crate) fn client_credentials(book: &Book, key: Key, transport: Transport) -> ClientCredentials {
    let source = ClientCredentials::builder(ENDPOINT, auth(book, key)).scope("all");
    source.transport(transport).build().unwrap()
}

fn provider(read: impl Fn() -> String + Send + Sync + 'static) -> SecretSource {
    SecretSource::provider(move || {
        let secret = Secret::from(read());
        async move { Ok(secret) }
    })
}

/// Tells the ledger what the crate says.
pub(crate) fn note(world: &World, instance: usize, event: &Event<'_>) {
    let mut ledger = world.ledger();
    match *event {
        Event::Obtained { epoch, .. } => ledger.obtained(instance, epoch),
        Event::Failed { reason, holds_token, retry_in, .. } => {
            ledger.failed(instance, reason, holds_token, retry_in);
        }
        Event::Expired { epoch } => ledger.expired(instance, epoch),
        Event::Rejected { epoch } => ledger.rejected(instance, epoch),
        Event::Renewing { epoch } => ledger.renewing(instance, epoch),
        Event::Replayed { .. } => ledger.count("replayed"),
        _ => {}
    }
}

/// Somebody asks for a fresh token.
pub(crate) async fn refresh(world: World, tokens: TokenHandle, instance: usize) {
    {
        let mut ledger = world.ledger();
        ledger.say(format!("somebody refreshes {instance}"));
        ledger.count("refresh asked");
        ledger.instances[instance].requested = true;
    }
    drop(tokens.refresh().await);
}
