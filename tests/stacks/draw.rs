//! Draws a stack and its requests from a seed.

use std::{sync::Arc, time::Duration};

use http::Method;

use crate::{
    client,
    common::dice::Dice,
    layers::Kind,
    ledger::Bounds,
    middle::Replay,
    story::{Plan, content, cut},
    terms::{Act, FORMS, Form, Role, Shape, Terms},
};

/// A stack.
#[derive(Debug, Clone)]
pub(crate) struct Stack {
    pub(crate) client: client::Kind,
    /// From the inside out.
    pub(crate) below: Vec<Kind>,
    pub(crate) replay: Replay,
    /// 0 for a single handle, else the tenants of a pool.
    pub(crate) tenants: u32,
    /// From the inside out.
    pub(crate) above: Vec<Kind>,
}

/// What happens besides the requests.
#[derive(Debug, Clone)]
pub(crate) struct Circumstances {
    pub(crate) lifetime: Duration,
    /// Whether the requests are gRPC's.
    pub(crate) grpc: bool,
    /// How revoked tokens are refused.
    pub(crate) form: Form,
    pub(crate) revoked_after: Option<Duration>,
    pub(crate) revoked_at_the_end: bool,
}

impl Stack {
    pub(crate) fn draw(dice: &Dice) -> Self {
        let client = dice.pick(&client::Kind::ALL);
        let mut below = layers(dice, 4, false);
        let mut above = layers(dice, 4, !client.is_bound());
        let all: Vec<Kind> = below.iter().chain(&above).copied().collect();
        for (place, kind) in below.iter_mut().chain(&mut above).enumerate() {
            if let Kind::ConcurrencyLimit(places) | Kind::Buffer(places) = kind {
                let over = &all[place + 1..];
                let retries = over.iter().any(|kind| kind.factor() > 1);
                // A retry of tower's waits for a place without bound, and a buffer or a balancer above
                // it may hold one while it has nothing to do.
                if retries && over.iter().any(|kind| kind.holds() > 0) {
                    *places = (*places).max(4);
                }
            }
        }
        Self {
            client,
            below,
            replay: dice.pick(&Replay::ALL),
            tenants: dice.pick(&[0, 0, 1, 2, 3]),
            above,
        }
    }

    /// Only the layer over a client, with a limit between them.
    pub(crate) fn simple() -> Self {
        Self {
            client: client::Kind::Legacy1,
            below: vec![Kind::ConcurrencyLimit(8)],
            replay: Replay::Never,
            tenants: 0,
            above: Vec::new(),
        }
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let per_send: usize = self.below.iter().map(|kind| kind.factor()).product();
        let passes: usize = self.above.iter().map(|kind| kind.factor()).product();
        let hops = if self.above.contains(&Kind::FollowRedirect) { 1 + MOST_ACTS } else { 1 };
        Bounds { per_send, per_request: 2 * per_send * passes * hops }
    }

    /// Whether requests that wait for a token hold places above the layer, as documented.
    pub(crate) fn limits_waiting(&self) -> bool {
        self.above.iter().any(|kind| matches!(kind, Kind::ConcurrencyLimit(_)))
    }

    /// Whether a layer answers in the server's place.
    pub(crate) fn answers(&self) -> bool {
        self.below.iter().chain(&self.above).any(|kind| matches!(kind, Kind::HttpTimeout(_)))
    }

    /// The limits, from the inside out, with how many places may stay taken when all is done.
    pub(crate) fn limits(&self) -> Vec<(usize, usize)> {
        let all: Vec<Kind> = self.below.iter().chain(&self.above).copied().collect();
        let limit = |(place, kind): (usize, &Kind)| match kind {
            Kind::ConcurrencyLimit(most) => {
                let holders = all[place + 1..].iter().map(|kind| kind.holds());
                Some((*most, holders.max().unwrap_or(0)))
            }
            _ => None,
        };
        all.iter().enumerate().filter_map(limit).collect()
    }
}

impl Circumstances {
    pub(crate) fn draw(dice: &Dice, stack: &Stack) -> Self {
        let tonic = stack.client == client::Kind::Tonic;
        let grpc = stack.client.is_http2() && (tonic || dice.chance(0.5));
        let lifetime = dice.pick(&[1, 2, 3600, 3600].map(Duration::from_secs));
        Self {
            lifetime,
            grpc,
            form: form(dice, grpc),
            revoked_after: dice.chance(0.5).then(|| dice.seconds(0.05, 0.6)),
            revoked_at_the_end: dice.chance(0.5),
        }
    }
}

fn layers(dice: &Dice, most: usize, follow: bool) -> Vec<Kind> {
    let mut kinds = Vec::new();
    for _ in 0..dice.below(most) {
        let kind = match dice.below(15) {
            0 => Kind::Buffer(dice.pick(&[1, 4])),
            1 | 2 => Kind::ConcurrencyLimit(dice.pick(&[1, 2, 8])),
            3 => Kind::RateLimit(10),
            4 => Kind::LoadShed,
            5 => Kind::Timeout(800),
            6 => Kind::HttpTimeout(800),
            7 => Kind::Retry(dice.pick(&[1, 2])),
            8 => Kind::SpawnReady,
            9 => Kind::Hedge,
            10 => Kind::Balance,
            11 => dice.pick(&[Kind::Map, Kind::SetHeader]),
            12 => Kind::Either(dice.chance(0.5)),
            13 => dice.pick(&[Kind::Trace, Kind::Propagate]),
            _ if follow => Kind::FollowRedirect,
            _ => Kind::Map,
        };
        // Twice of one kind shows nothing new, and multiplies.
        if !kinds.iter().any(|known: &Kind| known.factor() > 1 && kind.factor() > 1)
            && !kinds.contains(&kind)
        {
            kinds.push(kind);
        }
    }
    kinds
}

/// Draws the requests of a run.
pub(crate) fn requests(dice: &Dice, stack: &Stack, circumstances: &Circumstances) -> Vec<Terms> {
    let mut starts = Duration::ZERO;
    let mut requests = Vec::new();
    for id in 1..=REQUESTS {
        let dice = dice.fork();
        if dice.chance(0.6) {
            starts += dice.seconds(0.001, 0.1);
        }
        requests.push(request(&dice, id, starts, stack, circumstances.grpc));
    }
    requests
}

fn request(dice: &Dice, id: u64, starts: Duration, stack: &Stack, grpc: bool) -> Terms {
    let bound = stack.client.is_bound();
    let mut body = body(dice, id);
    let (method, empty) = match dice.below(20) {
        _ if grpc => (Method::POST, false),
        0..6 => (Method::GET, true),
        6 => (Method::TRACE, true),
        7..12 => (Method::PUT, false),
        12 => (Method::DELETE, true),
        _ => (Method::POST, false),
    };
    if empty {
        body = Plan { exact: true, ..Plan::default() };
    }
    let target = match dice.below(10) {
        _ if bound => Role::Home,
        0 => Role::Other,
        1 => Role::Foreign,
        _ => Role::Home,
    };
    let early = body.fails_at.is_some() && dice.chance(0.5);
    let acts = if !early && dice.chance(0.35) { 0 } else { 1 + dice.below(MOST_ACTS) };
    let tenant = u32::try_from(dice.below(stack.tenants.max(1) as usize)).unwrap_or(0);
    Terms {
        id,
        tenant,
        method,
        target,
        path_only: stack.client == client::Kind::Tonic && dice.chance(0.5),
        own: dice.chance(0.1).then(|| format!("Bearer own-{id}")),
        body: Arc::new(body),
        acts: (0..acts)
            .map(
                |n| if n == 0 && early { refuse(dice, grpc, 1.0) } else { act(dice, grpc, n == 0) },
            )
            .collect(),
        polls: dice.chance(0.15).then(|| u32::try_from(dice.below(8)).unwrap_or(0)),
        starts,
    }
}

fn body(dice: &Dice, id: u64) -> Plan {
    let length = dice.pick(&[10, 3_000, 100_000]);
    let stream = |chunks, exact| Plan {
        exact,
        chunks: cut(&content(id, length), chunks),
        ..Plan::default()
    };
    let chunks = 2 + dice.below(4);
    match dice.below(8) {
        0 => Plan { exact: true, ..Plan::default() },
        1 | 2 => Plan::whole(id, length),
        3 => stream(chunks, true),
        4 => stream(chunks, false),
        5 => Plan { trailers: true, ..stream(chunks, false) },
        6 => {
            let fails_at = Some(dice.below(chunks));
            Plan { fails_at, pause: Duration::from_millis(3), ..stream(chunks, dice.chance(0.5)) }
        }
        _ => {
            let trailers = dice.chance(0.3);
            let exact = !trailers && dice.chance(0.5);
            Plan { trailers, pause: Duration::from_millis(15), ..stream(chunks, exact) }
        }
    }
}

fn shape(dice: &Dice) -> Shape {
    let trailers = dice.chance(0.2);
    Shape {
        length: dice.pick(&[0, 40, 5_000, 200_000]),
        chunks: 1 + dice.below(5),
        exact: !trailers && dice.chance(0.5),
        trailers,
    }
}

fn form(dice: &Dice, grpc: bool) -> Form {
    match dice.below(4) {
        0 | 1 if grpc => Form::Grpc,
        // Most servers keep to the grammar.
        0 | 1 => FORMS[0],
        _ => dice.pick(&FORMS),
    }
}

fn refuse(dice: &Dice, grpc: bool, early: f64) -> Act {
    let form = form(dice, grpc);
    let empty = Shape { exact: true, ..Shape::default() };
    let shape = if form == Form::Grpc { empty } else { shape(dice) };
    Act::Refuse { form, early: dice.chance(early), revokes: dice.chance(0.8), shape }
}

fn act(dice: &Dice, grpc: bool, first: bool) -> Act {
    match dice.below(14) {
        // Most of what there is to see begins with a refusal, and ends well.
        _ if !first && dice.chance(0.5) => Act::Serve(shape(dice)),
        0..5 => refuse(dice, grpc, 0.4),
        5 => Act::Status(403, shape(dice)),
        6 => Act::Status(503, shape(dice)),
        7 | 8 => Act::Redirect(dice.pick(&[302, 307, 308]), dice.pick(&Role::ALL)),
        9 => Act::Reset { early: dice.chance(0.5) },
        10 => Act::Hang(dice.seconds(0.01, 1.0)),
        11 => Act::BreakOff(shape(dice)),
        _ => Act::Serve(shape(dice)),
    }
}

const REQUESTS: u64 = 32;
const MOST_ACTS: usize = 3;
