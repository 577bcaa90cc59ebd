//! Bodies: that no part of one is taken for all of it.

use super::{Invariant::I1, Ledger};

impl Ledger {
    /// An attempt announces the length of its body, or does not.
    pub(crate) fn announced(&mut self, id: u64, attempt: usize, told: Option<u64>, length: u64) {
        self.require(I1, told.is_none_or(|told| told == length), || {
            format!("attempt {attempt} of request {id} announces {told:?} bytes, not {length}")
        });
    }

    /// The API has read the body of an attempt to its end, and what it read is whole or is not.
    pub(crate) fn taken(&mut self, id: u64, attempt: usize, whole: bool) {
        self.say(format!("the body of attempt {attempt} of request {id} has ended"));
        self.count("body taken");
        self.require(I1, whole, || {
            format!("the API takes a part of the body of request {id} for all of it")
        });
        let sent = self.requests.get_mut(&id).and_then(|request| request.sends.get_mut(attempt));
        if let Some(sent) = sent {
            sent.taken = true;
        }
    }

    /// The caller's body has failed. A stream is lost then, and so is its request.
    pub(crate) fn body_failed(&mut self, id: u64) {
        self.say(format!("the body of request {id} fails"));
        self.count("body failed");
        if let Some(request) = self.requests.get_mut(&id) {
            request.body_failed = true;
        }
    }
}
