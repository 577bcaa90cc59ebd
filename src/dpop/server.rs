use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use http::HeaderMap;

use super::{ProofUrl, nonce};
use crate::{
    http::{Target, date},
    time::ServerClock,
};

/// What a server is to the client. One that is both has a nonce as each
/// ([RFC 9449 §9](https://www.rfc-editor.org/rfc/rfc9449#section-9)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Authorization,
    Resource,
}

/// One server, and what it has said about proofs.
pub(crate) struct Server {
    role: Role,
    scheme: Box<str>,
    host: Box<str>,
    port: Option<u16>,
    nonce: Mutex<Option<Box<str>>>,
    clock: ServerClock,
    used: AtomicU64,
}

impl Server {
    fn new(role: Role, url: ProofUrl<'_>) -> Self {
        let (scheme, host, port) = url.origin();
        let (nonce, clock, used) = (Mutex::default(), ServerClock::default(), AtomicU64::new(0));
        Self { role, scheme, host, port, nonce, clock, used }
    }

    fn is(&self, role: Role, url: ProofUrl<'_>) -> bool {
        self.role == role && url.is_at(&self.scheme, &self.host, self.port)
    }

    /// Whether a target is on this server.
    pub(crate) fn is_at(&self, target: Target<'_>) -> bool {
        ProofUrl::of_target(target, "").is_some_and(|url| self.is(self.role, url))
    }

    /// The nonce that the server wants to see next.
    pub(super) fn nonce(&self) -> MutexGuard<'_, Option<Box<str>>> {
        // Nothing panics while it is held.
        self.nonce.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The nonce that the server was last heard to want.
    pub(crate) fn known_nonce(&self) -> Option<Box<str>> {
        self.nonce().clone()
    }

    /// Takes the nonce of a response, whatever its status; `false` if it has none.
    ///
    /// RFC 9449 §8.2: the authorization server "MAY supply the new nonce in the same way that the
    /// initial one is supplied: by using a DPoP-Nonce HTTP header in the response"; §9: so may the
    /// resource server.
    pub(crate) fn learn(&self, headers: &HeaderMap) -> bool {
        let Some(new) = nonce(headers) else { return false };
        let mut nonce = self.nonce();
        if nonce.as_deref() != Some(new) {
            *nonce = Some(new.into());
        }
        true
    }

    /// What time the server has, in seconds since 1970.
    pub(super) fn time(&self, now: SystemTime) -> u64 {
        let time = self.clock.time(now).duration_since(SystemTime::UNIX_EPOCH);
        time.unwrap_or_default().as_secs()
    }

    /// Takes a response's `Date` for the server's time, which refused a proof; `false` if our idea
    /// of it was right. Only proofs for this very server are dated by it.
    pub(crate) fn correct_clock(&self, headers: &HeaderMap, now: SystemTime) -> bool {
        date(headers).is_some_and(|date| self.clock.correct(date, now))
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("role", &self.role)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// The servers that a key has been used at: the latest so many of them.
#[derive(Default)]
pub(super) struct Servers {
    list: RwLock<Vec<Arc<Server>>>,
    uses: AtomicU64,
}

impl Servers {
    /// The server at this URL.
    pub(super) fn at(&self, role: Role, url: ProofUrl<'_>) -> Arc<Server> {
        let use_ = self.uses.fetch_add(1, Ordering::Relaxed);
        let found = {
            let list = self.list.read().unwrap_or_else(PoisonError::into_inner);
            list.iter().find(|server| server.is(role, url)).cloned()
        };
        let server = found.unwrap_or_else(|| self.add(role, url));
        server.used.store(use_, Ordering::Relaxed);
        server
    }

    fn add(&self, role: Role, url: ProofUrl<'_>) -> Arc<Server> {
        let mut list = self.list.write().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been first.
        if let Some(server) = list.iter().find(|server| server.is(role, url)) {
            return server.clone();
        }
        if list.len() >= SERVER_CAP {
            let oldest =
                list.iter().enumerate().min_by_key(|(_, s)| s.used.load(Ordering::Relaxed));
            if let Some(at) = oldest.map(|(at, _)| at) {
                list.swap_remove(at);
            }
        }
        let server = Arc::new(Server::new(role, url));
        list.push(server.clone());
        server
    }
}

/// How many servers are remembered. One that was forgotten asks for a nonce again.
const SERVER_CAP: usize = 64;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderValue, Uri, header::DATE};

    use super::*;

    fn at(servers: &Servers, role: Role, url: &str) -> Arc<Server> {
        let uri: Uri = url.parse().unwrap();
        servers.at(role, ProofUrl::of_uri(&uri).unwrap())
    }

    fn with_nonce(nonce: &'static str) -> HeaderMap {
        HeaderMap::from_iter([("dpop-nonce".parse().unwrap(), HeaderValue::from_static(nonce))])
    }

    #[test]
    fn dpo_09_each_server_has_a_nonce_of_its_own() {
        let servers = Servers::default();
        let one = at(&servers, Role::Resource, "https://api.example/a");
        assert!(one.learn(&with_nonce("n1")));
        for (role, other) in [
            (Role::Authorization, "https://api.example/a"),
            (Role::Resource, "https://api.example:8443/a"),
            (Role::Resource, "https://other.example/a"),
            (Role::Resource, "http://api.example/a"),
        ] {
            assert!(at(&servers, role, other).nonce().is_none(), "{role:?} {other}");
        }
        let same = at(&servers, Role::Resource, "https://API.example:443/b?c");
        assert_eq!(same.nonce().as_deref(), Some("n1"));
        assert!(same.learn(&with_nonce("n2")));
        assert_eq!(one.nonce().as_deref(), Some("n2"), "a new one takes the old one's place");
        assert!(!one.learn(&HeaderMap::new()));
        assert_eq!(one.nonce().as_deref(), Some("n2"));
    }

    #[test]
    fn dpo_09_so_many_servers_are_remembered_and_the_one_not_used_for_longest_is_forgotten() {
        let servers = Servers::default();
        for number in 0..SERVER_CAP {
            let server = at(&servers, Role::Resource, &format!("https://s{number}.example/"));
            server.learn(&with_nonce("n"));
        }
        at(&servers, Role::Resource, "https://s0.example/");
        at(&servers, Role::Resource, "https://new.example/");
        assert_eq!(servers.list.read().unwrap().len(), SERVER_CAP);
        assert!(at(&servers, Role::Resource, "https://s0.example/").nonce().is_some());
        assert!(at(&servers, Role::Resource, "https://s1.example/").nonce().is_none());
    }

    #[test]
    fn dpo_13_a_clock_is_corrected_by_the_date_of_a_refusal_and_not_without_bound() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let dated = |by: i64| {
            let time = SystemTime::UNIX_EPOCH
                + Duration::from_secs(1_000_000_000_u64.saturating_add_signed(by));
            let date = HeaderValue::from_str(&httpdate::fmt_http_date(time)).unwrap();
            HeaderMap::from_iter([(DATE, date)])
        };
        let servers = Servers::default();
        let server = at(&servers, Role::Resource, "https://api.example/");
        assert!(!server.correct_clock(&HeaderMap::new(), now));
        assert!(!server.correct_clock(&dated(5), now));
        assert_eq!(server.time(now), 1_000_000_000);
        assert!(server.correct_clock(&dated(600), now));
        assert_eq!(server.time(now), 1_000_000_600);
        assert!(!server.correct_clock(&dated(600), now), "it is right by now");
        assert!(server.correct_clock(&dated(-600), now));
        assert_eq!(server.time(now), 999_999_400);
        assert!(server.correct_clock(&dated(10_000_000), now));
        assert_eq!(server.time(now), 1_000_086_400);
        let other = at(&servers, Role::Authorization, "https://api.example/");
        assert_eq!(other.time(now), 1_000_000_000);
    }
}
