use super::{FetchContext, TokenSource};
use crate::{error::Error, token::TokenSet};

/// A token that never changes, such as a personal access token.
///
/// ```
/// use tower_oauth::{FixedToken, TokenHandle, TokenSet};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), tower_oauth::Error> {
/// let tokens = TokenHandle::spawn(FixedToken::new(TokenSet::bearer("ghp_16C7e42F292c6912E7")?));
/// assert_eq!(tokens.token().await?.access_token().expose(), "ghp_16C7e42F292c6912E7");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct FixedToken(TokenSet);

impl FixedToken {
    /// Always gives this token.
    pub fn new(token: TokenSet) -> Self {
        Self(token)
    }
}

impl TokenSource for FixedToken {
    async fn fetch(&self, _: FetchContext) -> Result<TokenSet, Error> {
        Ok(self.0.clone())
    }
}
