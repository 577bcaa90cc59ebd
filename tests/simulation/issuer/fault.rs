//! What happens to one token request.

use std::time::Duration;

use http::StatusCode;

use super::answer::Reply;
use crate::{ledger::Key, weather::Trouble, world::World};

/// A fault, or none.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) way: Way,
    pub(super) delay: Duration,
    /// What is answered without a look at the request.
    pub(super) reply: Option<Reply>,
    pub(super) shape: Shape,
}

/// How the answer comes, if it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Whole,
    /// The connection is refused.
    Refused,
    /// The connection breaks before the request was looked at, or after.
    ResetUnread,
    Reset,
    /// No answer, to a request that was not looked at, or was.
    HangsUnread,
    Hangs,
    /// The body breaks off.
    Cut,
    /// A byte a second.
    Drips,
}

/// What an answer with a token looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Usual,
    /// Another `expires_in`, as JSON text; `None`: it is left out.
    Lifetime(Option<&'static str>),
    /// A token that lives for so many seconds.
    Short(u64),
    UnknownType,
    /// A token that cannot stand in a header.
    BadToken,
    Narrower,
    WithoutRefreshToken,
    /// Much more than anybody needs.
    WithHint,
}

impl Fault {
    fn none() -> Self {
        Self { way: Way::Whole, delay: Duration::ZERO, reply: None, shape: Shape::Usual }
    }

    pub(super) fn draw(world: &World, key: Key) -> Self {
        let mut fault = Self::none();
        if world.is_calm() {
            return fault;
        }
        let dice = world.dice();
        if world.has(Trouble::IssuerDown, key) {
            fault.way = Way::Refused;
        } else if world.has(Trouble::IssuerHangs, key) {
            fault.way =
                dice.pick(&[Way::HangsUnread, Way::HangsUnread, Way::HangsUnread, Way::Hangs]);
        } else if world.has(Trouble::IssuerThrottles, key) {
            fault.reply = Some(throttled(world));
        } else if world.has(Trouble::IssuerBehindProxy, key) {
            fault.reply = Some(page(world));
        } else if world.has(Trouble::ClientUnknown, key) {
            fault.reply = Some(unknown_client(world));
        } else if dice.chance(if world.has(Trouble::IssuerFlaky, key) { 0.5 } else { 0.02 }) {
            fault = Self::any(world);
        }
        if world.has(Trouble::IssuerSlow, key) {
            fault.delay = dice.seconds(0.5, 25.0);
        }
        if world.has(Trouble::IssuerHasty, key) {
            fault.shape = Shape::Short(1 + dice.below(9) as u64);
        } else if world.has(Trouble::IssuerAbsurd, key) {
            fault.shape = shape(world);
        }
        fault
    }

    fn any(world: &World) -> Self {
        let dice = world.dice();
        let mut fault = Self::none();
        match dice.below(12) {
            0 => fault.way = Way::Refused,
            1 => fault.way = Way::ResetUnread,
            2 => fault.way = Way::Reset,
            3 => fault.way = dice.pick(&[Way::HangsUnread, Way::Hangs]),
            4 => fault.way = Way::Cut,
            5 => fault.way = Way::Drips,
            6 => fault.delay = dice.seconds(0.5, 25.0),
            7 => fault.reply = Some(throttled(world)),
            8 => fault.reply = Some(page(world)),
            9 => fault.reply = Some(malformed(world)),
            10 => fault.reply = Some(refusal(world)),
            _ => fault.shape = shape(world),
        }
        fault
    }
}

fn shape(world: &World) -> Shape {
    world.dice().pick(&[
        Shape::Lifetime(None),
        Shape::Lifetime(Some("0")),
        Shape::Lifetime(Some("-1")),
        Shape::Lifetime(Some("59.9")),
        Shape::Lifetime(Some("\"120\"")),
        Shape::Lifetime(Some("1e308")),
        Shape::Lifetime(Some("9223372036854775808")),
        Shape::Short(1),
        Shape::Short(5),
        Shape::UnknownType,
        Shape::BadToken,
        Shape::Narrower,
        Shape::WithoutRefreshToken,
        Shape::WithHint,
    ])
}

fn throttled(world: &World) -> Reply {
    let status =
        world.dice().pick(&[StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE]);
    let mut reply = Reply::json(status, r#"{"error":"temporarily_unavailable"}"#);
    let waits = ["", "0", "5", "30", "120", "-5", "soon", "date", "past", "315360000"];
    reply.retry_after(world, world.dice().pick(&waits));
    reply
}

fn page(world: &World) -> Reply {
    let status = world.dice().pick(&[
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::FORBIDDEN,
        StatusCode::OK,
    ]);
    Reply::html(status)
}

fn unknown_client(world: &World) -> Reply {
    world
        .dice()
        .pick(&[
            (StatusCode::UNAUTHORIZED, r#"{"error":"invalid_client"}"#),
            (StatusCode::BAD_REQUEST, r#"{"error":"unauthorized_client"}"#),
            (StatusCode::UNAUTHORIZED, ""),
        ])
        .into()
}

fn refusal(world: &World) -> Reply {
    world
        .dice()
        .pick(&[
            (StatusCode::BAD_REQUEST, r#"{"error":"invalid_scope"}"#),
            (
                StatusCode::BAD_REQUEST,
                r#"{"error":"access_denied","error_description":"\u0007no"}"#,
            ),
            (StatusCode::BAD_REQUEST, r#"{"error":"slow_down"}"#),
            (StatusCode::INTERNAL_SERVER_ERROR, r#"{"error":"server_error"}"#),
            (StatusCode::NOT_FOUND, ""),
            (StatusCode::PERMANENT_REDIRECT, ""),
        ])
        .into()
}

fn malformed(world: &World) -> Reply {
    let text = match world.dice().below(8) {
        0 => String::new(),
        1 => r#"{"access_token":"#.to_owned(),
        2 => r#"{"access_token":"a","access_token":"b","token_type":"Bearer"}"#.to_owned(),
        3 => "[".repeat(5000),
        4 => format!(r#"{{"access_token":"{}"}}"#, "x".repeat(1_100_000)),
        5 => r#"{"access_token":7,"token_type":"Bearer"}"#.to_owned(),
        6 => r#"{"token_type":"Bearer","expires_in":60}"#.to_owned(),
        _ => "null".to_owned(),
    };
    Reply::json(StatusCode::OK, text)
}
