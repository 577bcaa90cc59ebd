//! The ledger: what every part of a run reports, and the checks that need nothing but one report.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::{HeaderMap, Method, Uri, header::AUTHORIZATION};
use tokio::time::Instant;

use crate::terms::{Act, Form, Role, Shape, Terms};

/// The invariants that the ledger checks, as FAULTS.md numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Invariant {
    /// No request is lost, sent too often, changed or answered by somebody else.
    I1,
    /// No request carries an expired token.
    I2,
    /// No token goes where it is not allowed to go.
    I4,
    /// Token requests are bounded.
    I6,
    /// A dropped caller changes nothing for the others.
    I12,
    /// Each request to an allowed origin has the token of its tenant.
    Token,
}

/// Shared by all parts of a run.
pub(crate) struct Ledger {
    started: Instant,
    origins: [String; 3],
    /// How revoked tokens are refused.
    form: Form,
    bounds: Bounds,
    state: Mutex<State>,
}

/// What happened in a run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) replays: usize,
    pub(crate) answers: usize,
}

/// How often a request may arrive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// For one call by the layer.
    pub(crate) per_send: usize,
    /// In all.
    pub(crate) per_request: usize,
}

#[derive(Default)]
struct State {
    tokens: HashMap<String, Issued>,
    fetches: Vec<Fetch>,
    requests: HashMap<u64, Known>,
    passes: Vec<Pass>,
    sends: u64,
    answers: Vec<Given>,
    /// Whether the token source may answer.
    open: bool,
    calm: bool,
    violations: Vec<(Invariant, String)>,
    history: Vec<String>,
}

/// A token.
struct Issued {
    tenant: u32,
    until: Instant,
    revoked: bool,
    /// Whether a server has taken it. One that was never taken is not revoked by a refusal: most
    /// renewals help.
    taken: bool,
}

/// A token request.
#[derive(Clone, Copy)]
pub(crate) struct Fetch {
    pub(crate) tenant: u32,
    pub(crate) at: Instant,
}

struct Known {
    terms: Terms,
    arrivals: usize,
}

/// A call of the layer.
struct Pass {
    request: u64,
    sends: Vec<Sent>,
}

/// A call by the layer.
struct Sent {
    number: u64,
    arrivals: usize,
    ended: Option<Result<Outcome, String>>,
}

/// What a tap knows of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) status: u16,
    /// The number of the server's answer; `None` if a layer made it.
    pub(crate) answer: Option<u64>,
    pub(crate) refused: bool,
    /// Whether its body may hold the connection until it is read.
    pub(crate) holds_connection: bool,
}

/// An answer of a server.
struct Given {
    request: u64,
    status: u16,
    /// The digest of its body; `None` if the body may break off without an error.
    digest: Option<String>,
    trailers: bool,
}

impl Ledger {
    pub(crate) fn new(origins: [String; 3], form: Form, bounds: Bounds) -> Self {
        Self { started: Instant::now(), origins, form, bounds, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn origin(&self, role: Role) -> &str {
        &self.origins[role as usize]
    }

    pub(crate) fn say(&self, line: &dyn fmt::Display) {
        self.state().say(self.started, line);
    }

    pub(crate) fn violation(&self, invariant: Invariant, what: String) {
        self.state().violation(self.started, invariant, what);
    }

    pub(crate) fn violations(&self) -> Vec<(Invariant, String)> {
        self.state().violations.clone()
    }

    pub(crate) fn history(&self) -> Vec<String> {
        self.state().history.clone()
    }

    /// From now on the servers behave.
    pub(crate) fn calm_down(&self) {
        self.state().calm = true;
        self.say(&"from here on it is calm");
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.state().calm
    }

    /// Lets the token source answer.
    pub(crate) fn open(&self) {
        self.state().open = true;
        self.say(&"tokens can be had from here on");
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state().open
    }

    pub(crate) fn counts(&self) -> Counts {
        let state = self.state();
        let again = |pass: &&Pass| pass.sends.len() > 1;
        Counts { replays: state.passes.iter().filter(again).count(), answers: state.answers.len() }
    }

    // Tokens.

    pub(crate) fn fetched(&self, fetch: Fetch) {
        self.state().fetches.push(fetch);
    }

    pub(crate) fn fetches(&self) -> Vec<Fetch> {
        self.state().fetches.clone()
    }

    pub(crate) fn issued(&self, token: &str, tenant: u32, lifetime: Duration) {
        let until = Instant::now() + lifetime;
        let mut state = self.state();
        let fresh = Issued { tenant, until, revoked: false, taken: false };
        let issued = state.tokens.entry(token.to_owned()).or_insert(fresh);
        issued.until = issued.until.max(until);
        state.say(self.started, &format_args!("issued {} for {lifetime:?}", short(token)));
    }

    /// The servers refuse all tokens that there are.
    pub(crate) fn revoke_all(&self) {
        let mut state = self.state();
        state.tokens.values_mut().for_each(|issued| issued.revoked = true);
        state.say(self.started, &"revoked all tokens");
    }

    // Requests.

    pub(crate) fn begin(&self, terms: &Terms) {
        let mut state = self.state();
        state.say(self.started, &format_args!("request {}: begins", terms.id));
        state.requests.insert(terms.id, Known { terms: terms.clone(), arrivals: 0 });
    }

    /// How often a request has arrived.
    pub(crate) fn arrivals(&self, request: u64) -> usize {
        self.state().requests.get(&request).map_or(0, |known| known.arrivals)
    }

    /// The layer is called. Returns the number of the call.
    pub(crate) fn pass(&self, head: &HeaderMap) -> u64 {
        let request = number(head, REQUEST).unwrap_or(u64::MAX);
        let mut state = self.state();
        state.passes.push(Pass { request, sends: Vec::new() });
        state.passes.len() as u64 - 1
    }

    /// The layer answers.
    pub(crate) fn passed(&self, pass: u64, result: &Result<Outcome, String>) {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(Pass { request, sends }) = state.passes.get(pass as usize) else { return };
        let fails = state.requests[request].terms.body.fails_at.is_some();
        let mut found = None;
        match (result, sends.last().and_then(|last| last.ended.as_ref())) {
            (Ok(outcome), Some(Ok(last))) if outcome != last => {
                found = Some(format!("the layer turned {last:?} into {outcome:?}"));
            }
            (Ok(outcome), Some(Err(_)) | None) => {
                let known =
                    |sent: &Sent| sent.ended.as_ref().is_some_and(|e| e.as_ref() == Ok(outcome));
                if !sends.iter().any(known) {
                    found = Some(format!("the layer made up {outcome:?}"));
                }
            }
            // F109: the caller gets the refusal, as documented. F83: unless the body failed.
            (Err(error), _) => {
                let first = sends.first().and_then(|first| first.ended.as_ref());
                let refused = first.is_some_and(|first| first.as_ref().is_ok_and(|o| o.refused));
                let may_be_dropped =
                    first.is_some_and(|first| first.as_ref().is_ok_and(|o| o.holds_connection));
                // One over HTTP/1.1 whose body is chunked may hold the connection: it is kept for a
                // second only.
                if refused && !fails && !may_be_dropped {
                    found = Some(format!("the refusal was replaced by an error: {error}"));
                }
            }
            _ => {}
        }
        let request = *request;
        state.say(self.started, &format_args!("request {request}: pass {pass} gave {result:?}"));
        if let Some(what) = found {
            state.violation(self.started, Invariant::I1, format!("request {request}: {what}"));
        }
    }

    /// The layer calls the service below. Returns the number of the call.
    pub(crate) fn send(&self, method: &Method, uri: &Uri, head: &HeaderMap) -> u64 {
        let mut guard = self.state();
        let state = &mut *guard;
        state.sends += 1;
        let number_of_send = state.sends;
        let role = self.role(uri);
        let pass = number(head, PASS).unwrap_or(u64::MAX) as usize;
        let Some(Pass { request, sends }) = state.passes.get_mut(pass) else {
            state.violation(self.started, Invariant::I1, "a call of unknown origin".to_owned());
            return number_of_send;
        };
        let request = *request;
        let ended = sends.last().map(|last| last.ended.clone());
        sends.push(Sent { number: number_of_send, arrivals: 0, ended: None });
        let count = sends.len();
        let line =
            format!("request {request}: send {number_of_send} to {role:?} with {}", shown(head));
        state.say(self.started, &line);
        match ended {
            _ if count > 2 => {
                let what = format!("request {request} was sent {count} times because of refusals");
                state.violation(self.started, Invariant::I1, what);
            }
            Some(Some(Ok(Outcome { refused: true, .. }))) | None => {}
            Some(other) => {
                let what = format!("request {request} was sent again after {other:?}");
                state.violation(self.started, Invariant::I1, what);
            }
        }
        self.judge(state, "the layer", request, role, method, head, Duration::from_millis(500));
        number_of_send
    }

    /// The service below answers.
    pub(crate) fn sent(&self, head: (u64, u64), result: Result<Outcome, String>) {
        let (pass, send) = head;
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(Pass { request, sends }) = state.passes.get_mut(pass as usize) else { return };
        let line = format!("request {request}: send {send} gave {result:?}");
        if let Some(sent) = sends.iter_mut().find(|sent| sent.number == send) {
            sent.ended = Some(result);
        }
        state.say(self.started, &line);
    }

    /// A request arrives at a server. Returns what the server does.
    pub(crate) fn arrive(&self, role: Role, method: &Method, head: &HeaderMap) -> (u64, Act) {
        let mut guard = self.state();
        let state = &mut *guard;
        let request = number(head, REQUEST).unwrap_or(u64::MAX);
        let Some(known) = state.requests.get_mut(&request) else {
            let what = format!("an unknown request arrived at {role:?}");
            state.violation(self.started, Invariant::I1, what);
            return (request, Act::Reset { early: true });
        };
        let mut act = known.terms.acts.get(known.arrivals).copied();
        known.arrivals += 1;
        if known.arrivals > self.bounds.per_request {
            let what = format!("request {request} arrived {} times", known.arrivals);
            state.violation(self.started, Invariant::I1, what);
        }
        if let Some((pass, send)) = number(head, PASS).zip(number(head, SEND)) {
            let sends = state.passes.get_mut(pass as usize).map(|pass| &mut pass.sends);
            let sent = sends.and_then(|sends| sends.iter_mut().find(|sent| sent.number == send));
            if let Some(sent) = sent {
                sent.arrivals += 1;
                let arrivals = sent.arrivals;
                if arrivals > self.bounds.per_send {
                    let what = format!("request {request}: one send arrived {arrivals} times");
                    state.violation(self.started, Invariant::I1, what);
                }
            }
        }
        // The layers below may have kept it for a while.
        self.judge(state, "a server", request, role, method, head, Duration::from_secs(10));
        if state.calm {
            act = None;
        }
        if let Some(issued) = token(head).and_then(|token| state.tokens.get_mut(token)) {
            if let Some(Act::Refuse { revokes: true, .. }) = act {
                if issued.taken {
                    issued.revoked = true;
                } else {
                    act = None;
                }
            }
            if issued.revoked && role.is_allowed() && !matches!(act, Some(Act::Refuse { .. })) {
                let (early, shape) = (act.is_some_and(|act| !act.reads_body()), Shape::default());
                act = Some(Act::Refuse { form: self.form, early, revokes: true, shape });
            }
            issued.taken |= matches!(act, None | Some(Act::Serve(_)));
        }
        let act = act.unwrap_or(Act::Serve(Shape {
            length: 64,
            exact: true,
            chunks: 1,
            ..Shape::default()
        }));
        let line = format!("request {request}: {method} at {role:?} with {}: {act:?}", shown(head));
        state.say(self.started, &line);
        (request, act)
    }

    /// A server has read a body to its end.
    pub(crate) fn stored(
        &self,
        request: u64,
        method: &Method,
        head: &HeaderMap,
        body: &[u8],
        trailers: Option<&HeaderMap>,
    ) {
        let mut guard = self.state();
        let state = &mut *guard;
        let Some(Known { terms, .. }) = state.requests.get(&request) else { return };
        // A redirect turned it into another one.
        if terms.method != *method {
            return;
        }
        let (stored, whole) = (crate::story::digest(body.iter().copied()), terms.body.digest());
        let end = trailers.and_then(|trailers| trailers.get(crate::story::TRAILER));
        let end = end.and_then(|end| end.to_str().ok());
        let mut wrong = Vec::new();
        if stored != whole {
            wrong.push(format!("a body was stored as {stored}, and is {whole}"));
        }
        if terms.body.trailers && end != Some(&*whole) {
            let framing = head.get(http::header::TRANSFER_ENCODING);
            wrong.push(format!("trailers were lost: {end:?}, framing {framing:?}"));
        }
        for what in wrong {
            state.violation(self.started, Invariant::I1, format!("request {request}: {what}"));
        }
    }

    /// A server answers. Returns the number of the answer.
    pub(crate) fn give(
        &self,
        request: u64,
        status: u16,
        digest: Option<String>,
        trailers: bool,
    ) -> u64 {
        let mut state = self.state();
        state.answers.push(Given { request, status, digest, trailers });
        state.answers.len() as u64 - 1
    }

    /// The caller of a request got an answer and read it.
    pub(crate) fn answered(
        &self,
        request: u64,
        outcome: Outcome,
        made_by_layers: bool,
        body: &Result<(String, Option<String>), String>,
    ) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.say(self.started, &format_args!("request {request}: {outcome:?}, {body:?}"));
        let Some(answer) = outcome.answer else {
            if !(made_by_layers && outcome.status == 408) {
                let what = format!("request {request}: no server gave {outcome:?}");
                state.violation(self.started, Invariant::I1, what);
            }
            return;
        };
        let mut wrong = None;
        match (state.answers.get(answer as usize), body) {
            (Some(given), _) if given.request != request || given.status != outcome.status => {
                wrong =
                    Some(format!("was given the {} of request {}", given.status, given.request));
            }
            (Some(Given { digest: Some(given), .. }), Ok((digest, _))) if given != digest => {
                wrong = Some(format!("the answer was {given}, and {digest} arrived"));
            }
            (Some(Given { digest, trailers: true, .. }), Ok((_, end)))
                if digest.is_some() && end != digest =>
            {
                wrong = Some(format!("the trailers of the answer were lost: {end:?}"));
            }
            (None, _) => wrong = Some("the answer is unknown".to_owned()),
            _ => {}
        }
        if let Some(what) = wrong {
            state.violation(self.started, Invariant::I1, format!("request {request}: {what}"));
        }
    }

    /// An error must not show a token.
    pub(crate) fn failed(&self, request: u64, error: &str) {
        let mut guard = self.state();
        let state = &mut *guard;
        state.say(self.started, &format_args!("request {request}: failed: {error}"));
        if state.tokens.keys().any(|token| error.contains(token.as_str())) {
            let what = format!("the error of request {request} shows a token");
            state.violation(self.started, Invariant::I4, what);
        }
    }

    fn role(&self, uri: &Uri) -> Role {
        let Some(authority) = uri.authority() else { return Role::Home };
        let is = |role: &&Role| self.origin(**role).ends_with(authority.as_str());
        *Role::ALL.iter().find(is).unwrap_or(&Role::Foreign)
    }

    /// Checks the credentials of a request. `slack` is how long ago the token may have expired.
    #[expect(clippy::too_many_arguments, reason = "a request in its parts")]
    fn judge(
        &self,
        state: &mut State,
        place: &str,
        request: u64,
        role: Role,
        method: &Method,
        head: &HeaderMap,
        slack: Duration,
    ) {
        let Some(Known { terms, .. }) = state.requests.get(&request) else { return };
        let mut found = Vec::new();
        let leaks = || {
            let mut values = head.values().filter_map(|value| value.to_str().ok());
            values.any(|value| state.tokens.keys().any(|token| value.contains(token.as_str())))
        };
        let own = terms.own.as_deref();
        let fields: Vec<_> =
            head.get_all(AUTHORIZATION).iter().map(|v| v.to_str().unwrap()).collect();
        let unsafe_method = [Method::TRACE, Method::CONNECT].contains(method);
        match (&*fields, token(head).map(|token| state.tokens.get(token))) {
            _ if !role.is_allowed() && leaks() => {
                found.push((Invariant::I4, "a token went to a foreign origin".to_owned()));
            }
            _ if unsafe_method && leaks() => {
                found.push((Invariant::I4, format!("a token went out with {method}")));
            }
            _ if !role.is_allowed() || unsafe_method => {}
            ([one], _) if own == Some(*one) => {}
            ([_], _) if own.is_some() && role == terms.target => {
                found.push((Invariant::Token, "the caller's header was replaced".to_owned()));
            }
            ([_], Some(Some(issued))) => {
                let age = Instant::now().saturating_duration_since(issued.until);
                if age > slack {
                    found.push((Invariant::I2, format!("a token was sent {age:?} after its end")));
                }
                if issued.tenant != terms.tenant {
                    found.push((Invariant::Token, "the token is another tenant's".to_owned()));
                }
            }
            ([], _) => found.push((Invariant::Token, "no token".to_owned())),
            ([_], _) => found.push((Invariant::Token, "a token that was never issued".to_owned())),
            _ => found.push((Invariant::Token, "several Authorization fields".to_owned())),
        }
        for (invariant, what) in found {
            let what = format!("request {request}, {method}, seen by {place}, to {role:?}: {what}");
            state.violation(self.started, invariant, what);
        }
    }
}

impl State {
    fn say(&mut self, started: Instant, line: &dyn fmt::Display) {
        let ms = started.elapsed().as_millis();
        self.history.push(format!("{ms:>6} ms  {line}"));
    }

    fn violation(&mut self, started: Instant, invariant: Invariant, what: String) {
        self.say(started, &format_args!("VIOLATION {invariant:?}: {what}"));
        self.violations.push((invariant, what));
    }
}

/// The token of a request.
fn token(head: &HeaderMap) -> Option<&str> {
    head.get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// The credentials of a request, without the secret.
fn shown(head: &HeaderMap) -> String {
    token(head).map_or_else(|| "no token".to_owned(), |token| short(token).to_owned())
}

fn short(token: &str) -> &str {
    token.rsplit_once('-').map_or(token, |(short, _)| short)
}

/// The number in a header field.
pub(crate) fn number(head: &HeaderMap, name: &str) -> Option<u64> {
    head.get(name)?.to_str().ok()?.parse().ok()
}

/// The fields by which the parts of a run recognise a request.
pub(crate) const REQUEST: &str = "x-request";
pub(crate) const TENANT: &str = "x-tenant";
pub(crate) const PASS: &str = "x-pass";
pub(crate) const SEND: &str = "x-send";
pub(crate) const ANSWER: &str = "x-answer";
