use super::tokens::Tokens;

/// The claim of a request on a refused token that it tries. A request that ends without an answer, in
/// whatever way, gives the token back on drop.
pub(super) struct TrialClaim<T: Tokens> {
    tokens: T,
    owner: T::Owner,
    claim: u64,
}

impl<T: Tokens> TrialClaim<T> {
    /// The claim on this token, if it is on trial.
    pub(super) fn of(tokens: &T, owner: T::Owner, epoch: u64) -> Option<Box<Self>> {
        let claim = tokens.claim_of(owner, epoch)?;
        Some(Box::new(Self { tokens: tokens.clone(), owner, claim }))
    }
}

impl<T: Tokens> Drop for TrialClaim<T> {
    fn drop(&mut self) {
        self.tokens.release(self.owner, self.claim);
    }
}
