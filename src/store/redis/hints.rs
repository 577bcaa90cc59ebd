use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    future::{Future as _, poll_fn},
    pin::{Pin, pin},
    str,
    sync::{Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use futures_core::Stream as _;
use redis::{
    Client, Msg, RedisResult,
    aio::{PubSubSink, PubSubStream},
};
use tokio::{
    sync::{Mutex as AsyncMutex, Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::time::{full_jitter, instant_in};

/// What other processes say that they have stored: one connection, which is made when somebody
/// first wants to know, and anew whenever it breaks. It never fails; at worst nothing is heard.
///
/// There is no task behind it. Of those who wait, one reads for all; when it is dropped, another
/// one goes on.
pub(super) struct Hints {
    client: Client,
    /// The highest generation that was said, for each channel that somebody asks for.
    channels: Mutex<HashMap<String, watch::Sender<u64>>>,
    /// A channel was added.
    added: Notify,
    subscriber: AsyncMutex<Subscriber>,
}

#[derive(Default)]
struct Subscriber {
    open: Option<Open>,
    /// Something may have been said that was not heard.
    missed: bool,
    failures: u32,
    not_before: Option<Instant>,
}

struct Open {
    sink: PubSubSink,
    stream: PubSubStream,
    subscribed: HashSet<String>,
}

/// What happens next on an open connection.
enum Next {
    Said(Msg),
    Added,
    Quiet,
    Closed,
}

impl Hints {
    pub(super) fn new(client: Client) -> Self {
        let (channels, subscriber) = (Mutex::default(), AsyncMutex::default());
        Self { client, channels, added: Notify::new(), subscriber }
    }

    /// Waits until a generation above `since` was said to be stored.
    pub(super) async fn above(&self, channel: String, since: u64) {
        let mut said = self.ask(channel);
        let mut heard = pin!(said.wait_for(|generation| *generation > since));
        let mut reading = pin!(self.read());
        poll_fn(|cx| {
            if heard.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let Poll::Pending = reading.as_mut().poll(cx);
            Poll::Pending
        })
        .await;
    }

    /// The highest generation that was said.
    pub(super) fn said(&self, channel: &str) -> Option<u64> {
        self.channels().get(channel).map(|said| *said.borrow())
    }

    /// What really was stored, some time after that was said.
    pub(super) fn correct(&self, channel: &str, said: Option<u64>, stored: u64) {
        if let (Some(sender), Some(was)) = (self.channels().get(channel), said) {
            // More may have been said meanwhile.
            sender.send_if_modified(|said| {
                let is_wrong = *said == was && *said > stored;
                *said = if is_wrong { stored } else { *said };
                is_wrong
            });
        }
    }

    fn ask(&self, channel: String) -> watch::Receiver<u64> {
        let mut channels = self.channels();
        if let Some(said) = channels.get(&channel) {
            return said.subscribe();
        }
        channels.retain(|_, said| said.receiver_count() > 0);
        let said = channels.entry(channel).or_default().subscribe();
        self.added.notify_one();
        said
    }

    /// Reads, once nobody else does.
    async fn read(&self) -> Infallible {
        let mut subscriber = self.subscriber.lock().await;
        loop {
            if let Some(not_before) = subscriber.not_before {
                sleep_until(not_before).await;
            }
            // Whatever went wrong: it is the store's own connection that tells.
            let Err(_) = self.listen(&mut subscriber).await;
            subscriber.open = None;
            subscriber.missed = true;
            subscriber.failures = subscriber.failures.saturating_add(1);
            let pause = full_jitter(subscriber.failures, &(MIN_PAUSE..MAX_PAUSE), fastrand::f64());
            subscriber.not_before = Some(instant_in(pause));
        }
    }

    /// Reads until the connection breaks. May be dropped and called again.
    async fn listen(&self, subscriber: &mut Subscriber) -> RedisResult<Infallible> {
        let Subscriber { open, missed, failures, .. } = subscriber;
        let open = if let Some(open) = open {
            open
        } else {
            let (sink, stream) = in_time(self.client.get_async_pubsub()).await?.split();
            open.insert(Open { sink, stream, subscribed: HashSet::new() })
        };
        loop {
            let wanted = self.channels().keys().cloned().collect();
            open.subscribe(wanted).await?;
            *failures = 0;
            if std::mem::take(missed) {
                // Perhaps nothing. To look is what tells.
                for said in self.channels().values() {
                    said.send_replace(u64::MAX);
                }
            }
            loop {
                match open.next(&self.added).await {
                    Next::Said(message) => self.hear(&message),
                    Next::Added => break,
                    // Nobody says so when the way to the server is gone.
                    Next::Quiet => drop(in_time(open.sink.ping::<redis::Value>()).await?),
                    Next::Closed => return Err(closed()),
                }
            }
        }
    }

    /// Something else than a number says nothing.
    fn hear(&self, message: &Msg) {
        let number = str::from_utf8(message.get_payload_bytes()).ok();
        let channels = self.channels();
        let said = channels.get(message.get_channel_name());
        if let (Some(said), Some(generation)) =
            (said, number.and_then(|text| text.parse::<u64>().ok()))
        {
            said.send_if_modified(|said| {
                let is_higher = generation > *said;
                *said = generation.max(*said);
                is_higher
            });
        }
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<u64>>> {
        self.channels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    async fn subscribe(&mut self, wanted: HashSet<String>) -> RedisResult<()> {
        let new: Vec<_> = wanted.difference(&self.subscribed).collect();
        if !new.is_empty() {
            in_time(self.sink.subscribe(new)).await?;
        }
        let old: Vec<_> = self.subscribed.difference(&wanted).collect();
        if !old.is_empty() {
            in_time(self.sink.unsubscribe(old)).await?;
        }
        self.subscribed = wanted;
        Ok(())
    }

    async fn next(&mut self, added: &Notify) -> Next {
        let mut added = pin!(added.notified());
        let mut quiet = pin!(sleep(KEEP_ALIVE));
        poll_fn(|cx| {
            if let Poll::Ready(message) = Pin::new(&mut self.stream).poll_next(cx) {
                return Poll::Ready(message.map_or(Next::Closed, Next::Said));
            }
            if added.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Next::Added);
            }
            quiet.as_mut().poll(cx).map(|()| Next::Quiet)
        })
        .await
    }
}

async fn in_time<T>(call: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    timeout(ANSWER_TIMEOUT, call).await.unwrap_or_else(|_| Err(closed()))
}

fn closed() -> redis::RedisError {
    (redis::ErrorKind::Io, "the connection is gone").into()
}

const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const MIN_PAUSE: Duration = Duration::from_millis(200);
const MAX_PAUSE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
