use std::{collections::BTreeSet, env, future::Future, io, net::SocketAddr, pin::Pin, sync::Arc};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::screen::is_public;
use crate::error::{Error, ErrorKind};

/// Resolves names to public addresses only. The connection is made to the very addresses that were
/// checked, so a name that resolves to another one a moment later gains nothing.
///
/// Where a proxy is used it is the proxy that resolves names, and only its own is resolved here.
pub(super) struct ScreeningResolver {
    /// Hosts that somebody configured: they may be anywhere.
    trusted: Arc<BTreeSet<String>>,
    lookup: Lookup,
}

type Lookup = fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

impl ScreeningResolver {
    pub(super) fn new(trusted: impl IntoIterator<Item = String>) -> Self {
        let mut trusted: BTreeSet<_> = trusted.into_iter().map(|host| plain(&host)).collect();
        trusted.extend(proxies());
        Self { trusted: Arc::new(trusted), lookup: |host| Box::pin(look_up(host)) }
    }
}

impl Resolve for ScreeningResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let host = plain(name.as_str());
        let trusted = self.trusted.contains(&host);
        let lookup = (self.lookup)(host);
        Box::pin(async move {
            let addresses = lookup.await?;
            // One is enough: who is in control of the name could have it tried first.
            if !trusted && addresses.iter().any(|address| !is_public(address.ip())) {
                return Err(Error::new(
                    ErrorKind::Discovery,
                    "a host in metadata resolves to an address of this machine or its network; if \
                     that is right, name it in the discovery's hosts",
                )
                .into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

async fn look_up(host: String) -> io::Result<Vec<SocketAddr>> {
    // The port is the URL's: reqwest puts it in the place of 0.
    tokio::net::lookup_host((host, 0)).await.map(Iterator::collect)
}

/// A host by which names are compared.
fn plain(host: &str) -> String {
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

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use tokio::{net::TcpListener, time::timeout};

    use super::*;
    use crate::error::BoxError;

    fn screening(lookup: Lookup) -> ScreeningResolver {
        ScreeningResolver { trusted: Arc::new(BTreeSet::from(["idp.corp".to_owned()])), lookup }
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
            |_| Box::pin(async { answer(&["127.0.0.1"]) }),
            |_| Box::pin(async { answer(&["169.254.169.254"]) }),
            |_| Box::pin(async { answer(&["::ffff:10.0.0.1"]) }),
            |_| Box::pin(async { answer(&["1.1.1.1", "192.168.0.1"]) }),
        ];
        for lookup in private {
            let error = resolve("idp.example", lookup).await.unwrap_err();
            assert_eq!(Error::find(&*error).map(Error::kind), Some(ErrorKind::Discovery));
            // What somebody configured may be there.
            assert!(resolve("IdP.corp.", lookup).await.is_ok());
        }
        let public = resolve("idp.example", |_| Box::pin(async { answer(&["1.1.1.1"]) })).await;
        assert_eq!(public.unwrap(), answer(&["1.1.1.1"]).unwrap());
    }

    /// A check before the connection would have passed. It is the connection's own look-up that
    /// counts, and it connects to nothing else.
    #[tokio::test]
    async fn dsc_08_a_name_that_rebinds_after_a_check_is_not_connected_to() {
        static LOOKUPS: AtomicUsize = AtomicUsize::new(0);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = |host| format!("http://{host}:{}/", listener.local_addr().unwrap().port());
        let lookup: Lookup = |_| {
            let public = LOOKUPS.fetch_add(1, Ordering::Relaxed) == 0;
            let addresses = answer(&[if public { "1.1.1.1" } else { "127.0.0.1" }]);
            Box::pin(async move { addresses })
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
        assert_eq!(LOOKUPS.load(Ordering::Relaxed), 3);
        let another = timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(another.is_err(), "two connections");
    }
}
