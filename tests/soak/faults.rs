//! Which faults there are, and when.

use std::time::Duration;

use tower_oauth::testing::Reply;

/// What the API does with a request whose token is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Does {
    /// Nothing yet.
    Nothing,
    Serve,
    /// 200, but slow.
    ServeSlowly,
    /// 401 with `invalid_token`: the token is not good. Not a fault of the API.
    RefuseToken,
    /// 401 without a reason.
    RefuseBare,
    Forbid,
    BeUnavailable,
    Reset,
}

impl Does {
    /// One percent of each fault, and the same in every run: it depends on the request's number and
    /// on how often it was sent.
    pub(crate) fn of(number: usize, attempt: u8) -> Self {
        let mut random = fastrand::Rng::with_seed((number as u64) << 8 | u64::from(attempt));
        match random.u8(..100) {
            0 => Self::RefuseBare,
            1 => Self::Forbid,
            2 => Self::BeUnavailable,
            3 => Self::Reset,
            4 => Self::ServeSlowly,
            _ => Self::Serve,
        }
    }

    pub(crate) fn from_code(code: u8) -> Self {
        [
            Self::Nothing,
            Self::Serve,
            Self::ServeSlowly,
            Self::RefuseToken,
            Self::RefuseBare,
            Self::Forbid,
            Self::BeUnavailable,
            Self::Reset,
        ][usize::from(code)]
    }

    /// The status of the answer, if there is one.
    pub(crate) fn status(self) -> Option<u16> {
        match self {
            Self::Serve | Self::ServeSlowly => Some(200),
            Self::RefuseToken | Self::RefuseBare => Some(401),
            Self::Forbid => Some(403),
            Self::BeUnavailable => Some(503),
            Self::Nothing | Self::Reset => None,
        }
    }
}

/// What the token endpoint does wrong.
const TOKEN_FAULTS: [fn() -> Reply; 10] = [
    Reply::reset,
    || Reply::status(429).header("retry-after", "1"),
    || Reply::honest().reset_after(20),
    || Reply::status(502).header("content-type", "text/html").body("<h1>Bad Gateway</h1>"),
    Reply::hang,
    || Reply::honest().then_reset_before_answer(),
    || Reply::status(503).header("retry-after", "1"),
    || Reply::honest().body(r#"{"access_token":"#),
    || Reply::honest().delay(Duration::from_millis(200)),
    || Reply::oauth_error(500, "server_error"),
];

/// The answers of the token endpoint: each fault in turn, one in `every`.
pub(crate) fn token_replies(count: usize, every: usize) -> impl Iterator<Item = Reply> {
    let faults = TOKEN_FAULTS.iter().cycle();
    let honest = move || std::iter::repeat_with(Reply::honest).take(every - 1);
    faults.flat_map(move |fault| honest().chain([fault()])).take(count)
}
