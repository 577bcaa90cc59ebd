use std::collections::VecDeque;

use super::reply::Reply;

/// Which reply comes next.
#[derive(Debug, Default)]
pub(super) struct Script {
    queue: VecDeque<Reply>,
    always: Option<Reply>,
}

impl Script {
    pub(super) fn push(&mut self, replies: impl IntoIterator<Item = Reply>) {
        self.queue.extend(replies);
    }

    pub(super) fn always(&mut self, reply: Reply) {
        self.always = Some(reply);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn next(&mut self) -> Reply {
        self.queue.pop_front().or_else(|| self.always.clone()).unwrap_or_else(Reply::honest)
    }

    /// Whether the server itself decides on the next answer.
    pub(super) fn next_is_honest(&self) -> bool {
        self.queue.front().or(self.always.as_ref()).is_none_or(Reply::is_honest)
    }
}
