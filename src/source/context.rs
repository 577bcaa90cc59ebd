use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::StepUp;
use crate::{
    observe::FetchReason,
    time::{Clock, SystemClock},
    token::TokenSet,
};

/// What a [`TokenSource`](super::TokenSource) is told when a token is needed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct FetchContext {
    /// The last token set, and so the current refresh token; `None` at the first fetch. From a store it
    /// may be a refresh token alone, with an empty access token: the one that came with it was refused.
    pub previous: Option<Arc<TokenSet>>,
    /// Why a token is needed.
    pub reason: FetchReason,
    /// What APIs have asked for beyond what the source asks for by itself; mostly nothing.
    pub step_up: StepUp,
    /// When the fetch is given up; in a [`Chain`](super::Chain), when the next source is asked.
    pub deadline: Instant,
    /// The clock to judge absolute times by.
    pub clock: Arc<dyn Clock>,
    /// Whether a store says what the newest refresh token is: a grant must not fall back on an older
    /// one.
    pub(crate) stored: bool,
}

impl FetchContext {
    /// The context of a first fetch, as a test of a source needs it: half a minute of time.
    pub fn first() -> Self {
        Self {
            previous: None,
            reason: FetchReason::Initial,
            step_up: StepUp::default(),
            deadline: Instant::now() + Duration::from_secs(30),
            clock: Arc::new(SystemClock::new()),
            stored: false,
        }
    }
}
