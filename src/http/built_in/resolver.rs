//! Names to addresses, off the async threads.

use std::{
    collections::BTreeSet,
    env, io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::{sync::watch, time::Instant};

use super::super::screen::is_public;
use crate::{
    error::{BoxError, Error, ErrorKind},
    task::contain,
};

/// Resolves names, and if hosts are named as trusted, the others to public addresses only. The
/// connection is made to the very addresses that were checked, so a name that resolves to another
/// one a moment later gains nothing.
///
/// Where a proxy is used it is the proxy that resolves names, and only its own is resolved here.
#[derive(Clone)]
pub(in super::super) struct Resolver {
    /// The hosts that may be at any address; `None` if all may.
    trusted: Option<Arc<BTreeSet<String>>>,
    lookup: Lookup,
    flights: Arc<Mutex<Flights>>,
}

type Lookup = fn(&str) -> io::Result<Vec<SocketAddr>>;

/// The look-ups under way.
#[derive(Default)]
struct Flights {
    begun: u64,
    list: Vec<Flight>,
}

struct Flight {
    number: u64,
    host: String,
    began: Instant,
    found: watch::Receiver<Option<Found>>,
}

type Found = Result<Vec<SocketAddr>, Arc<io::Error>>;

impl Resolver {
    /// The resolver of a client for one authority, whose host may be `anywhere` or at public addresses
    /// only. The proxies of the environment may be anywhere in any case.
    pub(in super::super) fn new(anywhere: bool) -> Self {
        let trusted = (!anywhere).then(|| Arc::new(proxies().collect()));
        Self { trusted, lookup: ask_system, flights: Arc::default() }
    }

    /// Joins a look-up of this name, or begins one.
    ///
    /// It has a thread of its own: a name server that is silent holds it for half a minute or more,
    /// and the end of the runtime would wait for one of tokio's.
    fn look_up(&self, host: &str) -> io::Result<watch::Receiver<Option<Found>>> {
        let mut flights = locked(&self.flights);
        let under_way = || flights.list.iter().filter(|flight| flight.host == host);
        if let Some(flight) = under_way().next_back()
            && (flight.began.elapsed() < PATIENCE || under_way().count() >= LOOKUPS)
        {
            return Ok(flight.found.clone());
        }
        flights.begun += 1;
        let (number, host) = (flights.begun, host.to_owned());
        let (sender, found) = watch::channel(None);
        let (lookup, all, name) = (self.lookup, self.flights.clone(), host.clone());
        thread::Builder::new().name("tower-oauth-dns".to_owned()).spawn(move || {
            let panicked = || Err(io::Error::other("the look-up panicked"));
            let found = contain(|| lookup(&name)).unwrap_or_else(panicked);
            locked(&all).list.retain(|flight| flight.number != number);
            sender.send_replace(Some(found.map_err(Arc::new)));
        })?;
        flights.list.push(Flight { number, host, began: Instant::now(), found: found.clone() });
        Ok(found)
    }
}

fn locked(flights: &Mutex<Flights>) -> MutexGuard<'_, Flights> {
    // Nothing panics while it is held.
    flights.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ask_system(host: &str) -> io::Result<Vec<SocketAddr>> {
    // The port is the URL's: reqwest puts it in the place of 0.
    (host, 0).to_socket_addrs().map(Iterator::collect)
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = plain(name.as_str());
        let anywhere = self.trusted.as_ref().is_none_or(|trusted| trusted.contains(&host));
        let look_up = self.look_up(&host);
        Box::pin(async move {
            let mut look_up = look_up?;
            let found = look_up.wait_for(Option::is_some).await?.clone();
            let addresses = found.transpose()?.unwrap_or_default();
            // One is enough: who is in control of the name could have it tried first.
            if !anywhere && addresses.iter().any(|address| !is_public(address.ip())) {
                return Err(BoxError::from(Error::new(
                    ErrorKind::Discovery,
                    "a host in metadata resolves to an address of this machine or its network; if \
                     that is right, name it in the discovery's hosts",
                )));
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// A host by which names are compared.
pub(super) fn plain(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// The hosts of the proxies that the environment names: whoever set them may have them anywhere.
fn proxies() -> impl Iterator<Item = String> {
    let names =
        ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"];
    names.into_iter().filter_map(|name| {
        let proxy = env::var(name).ok()?;
        let url = if proxy.contains("://") { proxy } else { format!("http://{proxy}") };
        Some(plain(reqwest::Url::parse(&url).ok()?.host_str()?))
    })
}

/// How many look-ups of a name are under way at once, those included that nobody waits for any more.
const LOOKUPS: usize = 2;
/// An older look-up than this may have lost its question on the way, and is not joined.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use tokio::{net::TcpListener, time::timeout};

    use super::*;

    fn screening(lookup: Lookup) -> Resolver {
        let trusted = Some(Arc::new(BTreeSet::from(["idp.corp".to_owned()])));
        Resolver { trusted, lookup, ..Resolver::new(true) }
    }

    async fn resolve(host: &str, lookup: Lookup) -> Result<Vec<SocketAddr>, BoxError> {
        screening(lookup).resolve(host.parse().unwrap()).await.map(Iterator::collect)
    }

    #[expect(clippy::unnecessary_wraps, reason = "as a look-up has it")]
    fn answer(addresses: &[&str]) -> io::Result<Vec<SocketAddr>> {
        Ok(addresses.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 0)).collect())
    }

    #[tokio::test]
    async fn dsc_08_a_name_with_any_private_address_is_refused() {
        let private: [Lookup; 4] = [
            |_| answer(&["127.0.0.1"]),
            |_| answer(&["169.254.169.254"]),
            |_| answer(&["::ffff:10.0.0.1"]),
            |_| answer(&["1.1.1.1", "192.168.0.1"]),
        ];
        for lookup in private {
            let error = resolve("idp.example", lookup).await.unwrap_err();
            assert_eq!(Error::find(&*error).map(Error::kind), Some(ErrorKind::Discovery));
            // What somebody configured may be there.
            assert!(resolve("IdP.corp.", lookup).await.is_ok());
        }
        let public = resolve("idp.example", |_| answer(&["1.1.1.1"])).await;
        assert_eq!(public.unwrap(), answer(&["1.1.1.1"]).unwrap());
    }

    /// A check before the connection would have passed. It is the connection's own look-up that
    /// counts, and it connects to nothing else.
    #[tokio::test]
    async fn dsc_08_a_name_that_rebinds_after_a_check_is_not_connected_to() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = |host| format!("http://{host}:{}/", listener.local_addr().unwrap().port());
        let lookup: Lookup = |_| {
            let public = ASKED.fetch_add(1, Ordering::Relaxed) == 0;
            answer(&[if public { "1.1.1.1" } else { "127.0.0.1" }])
        };
        assert!(resolve("rebinding.example", lookup).await.is_ok());

        let client = reqwest::Client::builder().no_proxy().dns_resolver(screening(lookup));
        let client = client.build().unwrap();
        let error = client.get(url("rebinding.example")).send().await.unwrap_err();
        assert_eq!(Error::find(&error).map(Error::kind), Some(ErrorKind::Discovery));
        // A name that is trusted reaches the listener: it is there, and it is the first to do so.
        let trusted = client.get(url("idp.corp")).send();
        let (_, from) = tokio::select! {
            accepted = listener.accept() => accepted.unwrap(),
            _ = trusted => unreachable!("nobody answers"),
        };
        assert!(from.ip().is_loopback());
        assert_eq!(ASKED.load(Ordering::Relaxed), 3);
        let another = timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(another.is_err(), "two connections");
    }
    /// A name server that does not answer, and a hundred connections a second that want to know.
    #[tokio::test]
    async fn look_ups_of_one_name_are_shared_and_a_silent_one_is_repeated_once() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let silent = screening(|_| {
            ASKED.fetch_add(1, Ordering::Relaxed);
            thread::sleep(PATIENCE * 3);
            answer(&["1.1.1.1"])
        });
        let began = Instant::now();
        let mut last = None;
        while began.elapsed() < PATIENCE * 2 {
            last = Some(silent.resolve("idp.example".parse().unwrap()));
            tokio::time::sleep(PATIENCE / 100).await;
        }
        assert_eq!(ASKED.load(Ordering::Relaxed), LOOKUPS);
        assert_eq!(last.unwrap().await.unwrap().count(), 1);
        tokio::time::sleep(PATIENCE * 2).await;
        assert!(locked(&silent.flights).list.is_empty());
    }
}
