//! What the authorization server knows: clients, grants and tokens.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::{
    Asked,
    answer::{Issued, Reply},
    fault::Shape,
    refresh_number,
};
use crate::{
    canary,
    ledger::{Key, Serial, Times, first_renewal},
    world::World,
};

/// How a client gets tokens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) lifetime: Duration,
    /// For a grant with a refresh token: for how long a spent one is taken; `None` for a grant
    /// without.
    pub(crate) grace: Option<Duration>,
    /// The server gives a token again that has half of its life left.
    pub(crate) repeats: bool,
}

/// The server's memory. Clones are the same one.
#[derive(Clone, Default)]
pub(crate) struct Book(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    clients: BTreeMap<Key, Client>,
    /// Until when (in boot time) each access token is good; zero if it was revoked.
    good_until: Vec<Duration>,
    refresh_tokens: usize,
}

struct Client {
    terms: Terms,
    /// The number of its secret.
    secret: usize,
    /// The first refresh token of its family, the newest, and the one before with its end.
    family: usize,
    head: usize,
    before: Option<(usize, Duration)>,
    /// The last token for the plain scope.
    last: Option<Serial>,
    alive: bool,
}

impl Book {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    pub(crate) fn register(&self, key: Key, terms: Terms) {
        let inner = &mut *self.inner();
        inner.refresh_tokens += 1;
        let head = inner.refresh_tokens;
        let (secret, before, last) = (0, None, None);
        let client = Client { terms, secret, family: head, head, before, last, alive: true };
        inner.clients.insert(key, client);
    }

    pub(crate) fn rotates(&self, key: Key) -> bool {
        self.inner().clients[&key].terms.grace.is_some()
    }

    /// Whether the server gives a token again that is good for long enough.
    pub(crate) fn repeats(&self, key: Key) -> bool {
        self.inner().clients[&key].terms.repeats
    }

    /// The client's secret, as its owner reads it.
    pub(crate) fn secret(&self, key: Key) -> String {
        canary::secret("cs", key, self.inner().clients[&key].secret)
    }

    /// The first refresh token of the present grant, as the user was given it.
    pub(crate) fn initial(&self, key: Key) -> String {
        canary::secret("rt", key, self.inner().clients[&key].family)
    }

    /// Replaces the client's secret.
    pub(crate) fn replace_secret(&self, key: Key) {
        self.inner().clients.get_mut(&key).unwrap().secret += 1;
    }

    /// Ends a grant.
    pub(crate) fn end_grant(&self, key: Key) {
        self.inner().clients.get_mut(&key).unwrap().alive = false;
    }

    pub(crate) fn is_alive(&self, key: Key) -> bool {
        self.inner().clients[&key].alive
    }

    /// Somebody gives access again.
    pub(crate) fn grant_again(&self, world: &World, key: Key) {
        let inner = &mut *self.inner();
        inner.refresh_tokens += 1;
        let client = inner.clients.get_mut(&key).unwrap();
        (client.family, client.head) = (inner.refresh_tokens, inner.refresh_tokens);
        (client.before, client.alive) = (None, true);
        world.ledger().granted_again(key);
    }

    /// Revokes all access tokens of a key.
    pub(crate) fn revoke(&self, world: &World, key: Key) {
        let mut ledger = world.ledger();
        ledger.say(format!("all tokens of key {key} are revoked"));
        let inner = &mut *self.inner();
        for (token, until) in ledger.tokens.iter_mut().zip(&mut inner.good_until) {
            if token.key == key {
                token.revoked = true;
                *until = Duration::ZERO;
            }
        }
    }

    /// Whether the API is to take a token.
    pub(crate) fn is_good(&self, serial: Serial, boot: Duration) -> bool {
        self.inner().good_until.get(serial).is_some_and(|until| boot < *until)
    }

    pub(super) fn answer(
        &self,
        world: &World,
        asked: &Asked,
        shape: Shape,
        arrived: Times,
    ) -> Reply {
        let inner = &mut *self.inner();
        let Some(client) = inner.clients.get_mut(&asked.key) else {
            return denied("invalid_client");
        };
        if canary::number_of("cs", &asked.secret) != Some(client.secret) {
            return Reply::json(StatusCode::UNAUTHORIZED, r#"{"error":"invalid_client"}"#);
        }
        let mut refresh_token = None;
        if let Some(sent) = &asked.refresh_token {
            let Some(sent) = refresh_number(sent) else { return denied("invalid_grant") };
            let now = world.now().boot;
            if !client.alive || sent < client.family {
                world.ledger().say(format!("the grant of key {} has ended", asked.key));
                return denied("invalid_grant");
            }
            let in_grace = client.before.is_some_and(|(old, until)| old == sent && now < until);
            if sent == client.head && shape == Shape::WithoutRefreshToken {
                // It stays as it is.
            } else if sent == client.head {
                inner.refresh_tokens += 1;
                client.head = inner.refresh_tokens;
                client.before = Some((sent, now + client.terms.grace.unwrap_or_default()));
                world.ledger().rotated(asked.key, sent, client.head);
            } else if !in_grace {
                // RFC 9700 §4.14.2: the server cannot tell who is the thief, and ends the grant.
                client.alive = false;
                world.ledger().reused(asked.key, sent);
                return denied("invalid_grant");
            }
            refresh_token = (shape != Shape::WithoutRefreshToken).then_some(client.head);
        }
        let lifetime = client.terms.lifetime;
        let plain = !asked.scope.contains("more") && shape == Shape::Usual;
        if let Some(serial) = client.last.filter(|_| plain && client.terms.repeats) {
            let left = inner.good_until[serial].saturating_sub(world.now().boot);
            if left >= lifetime / 2 {
                let left = Duration::from_secs(left.as_secs());
                // From when it was asked for on.
                let early = world.now().boot - arrived.boot;
                world.ledger().repeated(serial, first_renewal(left).saturating_sub(early));
                let members = members(asked.key, serial, None, shape, left);
                let mut reply = Reply::json(StatusCode::OK, Value::Object(members).to_string());
                reply.issued = Some(Issued { serial, refresh_token: None, useful: true });
                return reply;
            }
        }
        let (real, told, believed) = times(shape, lifetime);
        let due = match shape {
            Shape::WithHint => lifetime / 2,
            _ => first_renewal(told.unwrap_or(believed)),
        };
        let serial = world.ledger().issued(asked.key, arrived.boot, believed, due);
        inner.good_until.push(world.now().boot + real);
        client.last = plain.then_some(serial);
        let members = members(asked.key, serial, refresh_token, shape, lifetime);
        let mut reply = Reply::json(StatusCode::OK, Value::Object(members).to_string());
        let useful = !matches!(shape, Shape::UnknownType | Shape::BadToken);
        reply.issued = Some(Issued { serial, refresh_token, useful });
        reply
    }
}

/// How long a token lives in truth, as the client is told, and as it may believe.
fn times(shape: Shape, lifetime: Duration) -> (Duration, Option<Duration>, Duration) {
    let default = Duration::from_secs(3600);
    let long = Duration::from_secs(400 * 24 * 3600);
    match shape {
        Shape::Lifetime(None) => (lifetime, None, default),
        Shape::Lifetime(Some(text)) => {
            let told = text.trim_matches('"').parse::<f64>().unwrap_or_default().max(0.0);
            let told = Duration::try_from_secs_f64(told.floor()).unwrap_or(long).min(long);
            if told.is_zero() {
                // It counts as not said.
                return (lifetime, None, default);
            }
            // Not before the least that a token is served for.
            (lifetime.max(told.min(default)), Some(told), told.max(LEAST))
        }
        Shape::Short(seconds) => {
            let short = Duration::from_secs(seconds);
            (short, Some(short), short)
        }
        _ => (lifetime, Some(lifetime), lifetime),
    }
}

fn members(
    key: Key,
    serial: Serial,
    refresh_token: Option<usize>,
    shape: Shape,
    lifetime: Duration,
) -> Map<String, Value> {
    let mut access_token = canary::secret("at", key, serial);
    if shape == Shape::BadToken {
        access_token.push_str("\r\nx-evil: yes");
    }
    let token_type = if shape == Shape::UnknownType { "mac" } else { "Bearer" };
    let mut members = Map::new();
    members.insert("access_token".into(), access_token.into());
    members.insert("token_type".into(), token_type.into());
    members.insert("expires_in".into(), json!(lifetime.as_secs()));
    match shape {
        Shape::Lifetime(None) => drop(members.remove("expires_in")),
        Shape::Lifetime(Some(text)) => {
            let value = serde_json::from_str(text).unwrap_or(Value::Null);
            members.insert("expires_in".into(), value);
        }
        Shape::Short(seconds) => drop(members.insert("expires_in".into(), json!(seconds))),
        Shape::Narrower => drop(members.insert("scope".into(), "little".into())),
        Shape::WithHint => drop(members.insert("refresh_in".into(), json!(lifetime.as_secs() / 2))),
        _ => {}
    }
    if let Some(number) = refresh_token {
        members.insert("refresh_token".into(), canary::secret("rt", key, number).into());
    }
    members
}

fn denied(error: &str) -> Reply {
    Reply::json(StatusCode::BAD_REQUEST, json!({ "error": error }).to_string())
}

/// A token is served for half a second at least, whatever its lifetime.
const LEAST: Duration = Duration::from_secs(1);
