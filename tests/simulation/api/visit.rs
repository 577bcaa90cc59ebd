//! One attempt of a request at the API, and what the API reads of its body.

use std::pin::Pin;

use bytes::Buf;
use http_body::Body;
use http_body_util::BodyExt;

use super::ApiError;
use crate::{ledger::Says, upload::content, world::World};

/// An attempt of a request.
pub(super) struct Visit<B> {
    pub(super) world: World,
    pub(super) id: u64,
    pub(super) attempt: usize,
    body: Pin<Box<B>>,
    got: Vec<u8>,
}

/// How much of a body the API reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    Nothing,
    Frames(usize),
    All,
}

/// How far it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Read {
    Whole,
    Part,
    Torn,
}

impl<B: Body> Visit<B> {
    pub(super) fn new(world: World, id: u64, attempt: usize, body: B) -> Self {
        let length = content(id).len() as u64;
        let told = body.size_hint().exact();
        world.ledger().announced(id, attempt, told, length);
        Self { world, id, attempt, body: Box::pin(body), got: Vec::new() }
    }

    pub(super) async fn read(&mut self, reads: Reads) -> Read {
        let mut left = match reads {
            Reads::Nothing => 0,
            Reads::Frames(frames) => frames,
            Reads::All => usize::MAX,
        };
        while left > 0 {
            left -= 1;
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(mut data) = frame.into_data() {
                        let data = data.copy_to_bytes(data.remaining());
                        self.got.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) => return Read::Torn,
                None => {
                    let whole = self.got == content(self.id).as_bytes();
                    self.world.ledger().taken(self.id, self.attempt, whole);
                    return Read::Whole;
                }
            }
        }
        Read::Part
    }

    /// The connection breaks.
    pub(super) fn breaks(&self) -> ApiError {
        self.world.ledger().answered(self.id, self.attempt, 0, Says::Nothing);
        ApiError(Some(self.attempt))
    }
}
