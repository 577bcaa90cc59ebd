//! The client for one authority, which is replaced when its connections are in doubt.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    super::transport::{Answer, Limits},
    bounded,
    clients::{ClientKey, forget},
    resolver::Resolver,
    tls, with_bounds,
};
use crate::{
    error::{Error, ErrorKind},
    task::Contained,
};

/// The client that all requests to an authority share.
pub(super) struct AuthorityClient {
    key: ClientKey,
    resolver: Resolver,
    current: Mutex<Current>,
}

#[derive(Clone)]
struct Current {
    client: reqwest::Client,
    /// How many clients came before it.
    generation: u64,
}

impl AuthorityClient {
    pub(super) fn new(key: ClientKey) -> Result<Self, Error> {
        let resolver = Resolver::new(key.trusted.clone());
        let current = Mutex::new(Current { client: build(&resolver)?, generation: 0 });
        Ok(Self { key, resolver, current })
    }

    pub(super) fn key(&self) -> &ClientKey {
        &self.key
    }

    pub(super) async fn exchange(
        &self,
        request: http::Request<Bytes>,
        limits: Limits,
    ) -> Result<Answer, Error> {
        let Current { client, generation } = self.current().clone();
        let mut doubt = Doubt {
            client: self,
            generation,
            began: Instant::now(),
            deadline: limits.deadline,
            settled: false,
        };
        // A log subscriber that panics may do so in the client, where it leaves locks poisoned.
        let outcome = Contained::new(bounded(&client, request, limits)).await;
        doubt.settled = true;
        outcome.unwrap_or_else(|| {
            self.replace(generation);
            let message = "the HTTP client panicked; the next request has a new one";
            Err(Error::new(ErrorKind::Panic, message))
        })
    }

    /// Puts a new client, without connections, in the place of the one of this generation. Requests
    /// under way keep the old one's.
    fn replace(&self, generation: u64) {
        let replaced = {
            let mut current = self.current();
            if current.generation != generation {
                return;
            }
            // Without a new one the old one is better than none.
            let Ok(client) = build(&self.resolver) else { return };
            let generation = generation + 1;
            mem::replace(&mut *current, Current { client, generation })
        };
        drop(replaced);
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // Nothing panics while it is held.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AuthorityClient {
    fn drop(&mut self) {
        forget(&self.key);
    }
}

/// A request without an answer yet. If it is given up after some time, its connection is in doubt: a
/// firewall may have forgotten it, or a proxy the connection behind it, and answer pings all the
/// same. HTTP/2 would put each later request on that connection, too.
struct Doubt<'a> {
    client: &'a AuthorityClient,
    generation: u64,
    began: Instant,
    deadline: Instant,
    settled: bool,
}

impl Drop for Doubt<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let too_long = now >= self.deadline || now.duration_since(self.began) >= PATIENCE;
        if !self.settled && too_long {
            self.client.replace(self.generation);
        }
    }
}

fn build(resolver: &Resolver) -> Result<reqwest::Client, Error> {
    let failed = |message| Error::new(ErrorKind::Transport, message);
    let tls = tls::config().map_err(|error| {
        failed("no connection can be made to the authorization server").with_source(error)
    })?;
    with_bounds(reqwest::Client::builder())
        .tls_backend_preconfigured(tls)
        .dns_resolver(resolver.clone())
        .build()
        .map_err(|error| failed("no HTTP client can be built").with_source(error))
}

/// A request that was given up sooner says nothing about its connection.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{net::TcpListener, runtime::Handle, time::timeout_at};

    use super::{super::clients::client_for, *};

    async fn silent() -> (TcpListener, Arc<AuthorityClient>) {
        // It accepts connections, if nobody else does, and answers none.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = format!("http://{}", listener.local_addr().unwrap());
        let key = ClientKey { authority, trusted: None, runtime: Handle::current().id() };
        (listener, client_for(key).unwrap())
    }

    async fn ask(client: &AuthorityClient, deadline: Duration, given_up: Duration) -> u64 {
        let request = http::Request::post(&client.key.authority).body(Bytes::new()).unwrap();
        let limits = Limits { deadline: Instant::now() + deadline, body: 1024 };
        let exchange = client.exchange(request, limits);
        timeout_at(Instant::now() + given_up, exchange).await.unwrap_err();
        client.current().generation
    }

    #[tokio::test]
    async fn f101_a_client_is_replaced_once_a_request_was_given_up_late_and_no_other_client_is() {
        let (_listener, client) = silent().await;
        let (_another_listener, another) = silent().await;
        let [soon, late] = [Duration::from_millis(100), PATIENCE + Duration::from_millis(50)];
        assert_eq!(ask(&client, late, soon).await, 0, "its caller did not want to wait");
        assert_eq!(ask(&client, soon, soon).await, 1, "its time was over");
        assert_eq!(ask(&client, late * 2, late).await, 2);
        // Of many that have waited for one connection, one replaces it.
        let (first, second) = tokio::join!(ask(&client, soon, soon), ask(&client, soon, soon));
        assert_eq!((first.max(second), client.current().generation), (3, 3));
        assert_eq!(another.current().generation, 0);
    }
}
