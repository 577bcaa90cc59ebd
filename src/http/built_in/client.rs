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
};
use crate::{
    error::{Error, ErrorKind},
    task::{Contained, contain},
};

/// Makes the clients for an authority, each in the place of the one before it.
pub(in super::super) trait Recipe: Send + Sync {
    fn build(&self) -> Result<reqwest::Client, Error>;
}

/// The client that all requests to an authority share.
pub(in super::super) struct AuthorityClient {
    recipe: Box<dyn Recipe>,
    current: Mutex<Current>,
}

#[derive(Clone)]
struct Current {
    client: reqwest::Client,
    /// How many clients came before it.
    generation: u64,
}

impl AuthorityClient {
    pub(in super::super) fn new(recipe: impl Recipe + 'static) -> Result<Self, Error> {
        let current = Mutex::new(Current { client: recipe.build()?, generation: 0 });
        Ok(Self { recipe: Box::new(recipe), current })
    }

    pub(in super::super) async fn exchange(
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
        if self.current().generation != generation {
            return;
        }
        // A function of the user's may be part of it. Without a new one the old one is better than none.
        let Some(Ok(client)) = contain(|| self.recipe.build()) else { return };
        let mut current = self.current();
        if current.generation != generation {
            return;
        }
        let replaced = mem::replace(&mut *current, Current { client, generation: generation + 1 });
        drop(current);
        drop(replaced);
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        // Nothing panics while it is held.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
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

/// A request that was given up sooner says nothing about its connection. [`Transport::reqwest`] tells
/// it.
///
/// [`Transport::reqwest`]: crate::Transport::reqwest
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::{net::TcpListener, runtime::Handle, time::timeout_at};

    use super::{
        super::clients::{ClientKey, client_for},
        *,
    };

    struct Silent {
        client: Arc<AuthorityClient>,
        authority: String,
    }

    async fn silent() -> (TcpListener, Silent) {
        // It accepts connections, if nobody else does, and answers none.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let authority = format!("http://{}", listener.local_addr().unwrap());
        let key = ClientKey {
            authority: authority.clone(),
            anywhere: true,
            runtime: Handle::current().id(),
        };
        (listener, Silent { client: client_for(key).unwrap(), authority })
    }

    async fn ask(server: &Silent, deadline: Duration, given_up: Duration) -> u64 {
        let request = http::Request::post(&server.authority).body(Bytes::new()).unwrap();
        let limits = Limits { deadline: Instant::now() + deadline, body: 1024 };
        let exchange = server.client.exchange(request, limits);
        timeout_at(Instant::now() + given_up, exchange).await.unwrap_err();
        server.client.current().generation
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
        assert_eq!((first.max(second), client.client.current().generation), (3, 3));
        assert_eq!(another.client.current().generation, 0);
    }
}
