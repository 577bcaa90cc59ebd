use std::{
    collections::{HashMap, HashSet},
    iter,
    time::Duration,
};

use tokio::time::Instant;

/// What a refresh does to the refresh token ([RFC 9700 §4.14.2]).
///
/// [RFC 9700 §4.14.2]: https://www.rfc-editor.org/rfc/rfc9700#section-4.14.2
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rotation {
    /// The refresh token stays as it is, and answers do not repeat it.
    #[default]
    Never,
    /// Every refresh gives a new refresh token and spends the one that was used.
    Always {
        /// How long a spent one still works, for answers that were lost. After that, using it
        /// revokes every token that came from the same grant.
        grace: Duration,
    },
}

/// All tokens of a server.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    access: HashMap<String, Access>,
    refresh: HashMap<String, Refresh>,
    revoked_grants: HashSet<u64>,
    /// Numbers tokens and grants.
    count: u64,
}

/// What a token stands for. Tokens with the same number are revoked together.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) client: String,
    pub(super) scope: Option<String>,
    number: u64,
}

#[derive(Debug)]
struct Access {
    grant: Grant,
    /// Never, if `None`.
    expires_at: Option<Instant>,
    revoked: bool,
}

#[derive(Debug)]
struct Refresh {
    grant: Grant,
    spent_at: Option<Instant>,
}

/// Why a refresh token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// Unknown, revoked, or another client's.
    Dead,
    /// It was spent before: the whole grant is revoked now.
    Reused,
    /// More scope was asked for than granted.
    Scope,
}

/// Why an access token is not active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inactive {
    Unknown,
    Expired,
    Revoked,
}

impl Tokens {
    pub(super) fn grant(&mut self, client: &str, scope: Option<String>) -> Grant {
        self.count += 1;
        Grant { client: client.to_owned(), scope, number: self.count }
    }

    pub(super) fn issue_access(&mut self, grant: Grant, lifetime: Duration) -> String {
        let token = self.value("at");
        let expires_at = Instant::now().checked_add(lifetime);
        self.access.insert(token.clone(), Access { grant, expires_at, revoked: false });
        token
    }

    pub(super) fn issue_refresh(&mut self, grant: Grant) -> String {
        let token = self.value("rt");
        self.refresh.insert(token.clone(), Refresh { grant, spent_at: None });
        token
    }

    /// Uses a refresh token, which spends it if it rotates.
    pub(super) fn redeem(
        &mut self,
        token: &str,
        client: &str,
        scope: Option<&str>,
        rotation: Rotation,
    ) -> Result<Grant, Refused> {
        let found = self.refresh.get_mut(token).filter(|refresh| refresh.grant.client == client);
        let Some(refresh) = found else { return Err(Refused::Dead) };
        let mut grant = refresh.grant.clone();
        if self.revoked_grants.contains(&grant.number) {
            return Err(Refused::Dead);
        }
        let grace = match rotation {
            Rotation::Never => Duration::ZERO,
            Rotation::Always { grace } => grace,
        };
        if refresh.spent_at.is_some_and(|at| at.elapsed() >= grace) {
            self.revoked_grants.insert(grant.number);
            return Err(Refused::Reused);
        }
        if let Some(scope) = scope {
            // RFC 6749 §6: "The requested scope MUST NOT include any scope not originally granted".
            if !is_subset(scope, grant.scope.as_deref().unwrap_or_default()) {
                return Err(Refused::Scope);
            }
            grant.scope = Some(scope.to_owned());
        }
        if rotation != Rotation::Never {
            refresh.spent_at.get_or_insert_with(Instant::now);
        }
        Ok(grant)
    }

    /// The grant of a refresh token, with its whole scope.
    pub(super) fn refresh_grant(&self, token: &str) -> Option<&Grant> {
        self.refresh.get(token).map(|refresh| &refresh.grant)
    }

    /// The grant of an active access token.
    pub(super) fn check(&self, token: &str) -> Result<&Grant, Inactive> {
        let access = self.access.get(token).ok_or(Inactive::Unknown)?;
        if access.revoked || self.revoked_grants.contains(&access.grant.number) {
            return Err(Inactive::Revoked);
        }
        if access.expires_at.is_some_and(|at| at <= Instant::now()) {
            return Err(Inactive::Expired);
        }
        Ok(&access.grant)
    }

    /// The client that a token, of either kind, was issued to.
    pub(super) fn owner(&self, token: &str) -> Option<&str> {
        let access = self.access.get(token).map(|access| &access.grant);
        access.or_else(|| self.refresh_grant(token)).map(|grant| grant.client.as_str())
    }

    /// Revokes an access token, or a refresh token and all that came from the same grant.
    pub(super) fn revoke(&mut self, token: &str) -> bool {
        if let Some(access) = self.access.get_mut(token) {
            access.revoked = true;
            return true;
        }
        match self.refresh.get(token) {
            Some(refresh) => {
                self.revoked_grants.insert(refresh.grant.number);
                true
            }
            None => false,
        }
    }

    pub(super) fn revoke_access(&mut self) {
        for access in self.access.values_mut() {
            access.revoked = true;
        }
    }

    pub(super) fn revoke_all(&mut self) {
        self.revoke_access();
        self.revoked_grants.extend(self.refresh.values().map(|refresh| refresh.grant.number));
    }

    fn value(&mut self, kind: &str) -> String {
        self.count += 1;
        let random: String = iter::repeat_with(fastrand::alphanumeric).take(24).collect();
        format!("{kind}-{}-{random}", self.count)
    }
}

fn is_subset(asked: &str, granted: &str) -> bool {
    asked.split(' ').all(|scope| granted.split(' ').any(|granted| granted == scope))
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn an_access_token_lives_exactly_as_long_as_was_said() {
        let mut tokens = Tokens::default();
        let grant = tokens.grant("c", None);
        let token = tokens.issue_access(grant.clone(), Duration::from_millis(1500));
        let forever = tokens.issue_access(grant, Duration::MAX);
        advance(Duration::from_millis(1499)).await;
        assert!(tokens.check(&token).is_ok());
        advance(Duration::from_millis(1)).await;
        assert_eq!(tokens.check(&token).unwrap_err(), Inactive::Expired);
        assert!(tokens.check(&forever).is_ok());
        assert_eq!(tokens.check("at-1-x").unwrap_err(), Inactive::Unknown);
    }

    #[tokio::test(start_paused = true)]
    async fn a_spent_refresh_token_works_in_its_grace_and_then_kills_its_family() {
        let mut tokens = Tokens::default();
        let rotation = Rotation::Always { grace: MINUTE };
        let grant = tokens.grant("c", None);
        let first = tokens.issue_refresh(grant);
        let grant = tokens.redeem(&first, "c", None, rotation).unwrap();
        let access = tokens.issue_access(grant.clone(), MINUTE * 10);
        let second = tokens.issue_refresh(grant);

        advance(Duration::from_millis(59_999)).await;
        assert!(tokens.redeem(&first, "c", None, rotation).is_ok());
        assert!(tokens.check(&access).is_ok());
        advance(Duration::from_millis(1)).await;
        let mut redeem = |token: &str| tokens.redeem(token, "c", None, rotation).unwrap_err();
        assert_eq!(redeem(&first), Refused::Reused);
        assert_eq!(redeem(&second), Refused::Dead);
        assert_eq!(tokens.check(&access).unwrap_err(), Inactive::Revoked);
    }

    #[tokio::test]
    async fn a_refused_scope_or_client_does_not_spend_the_token() {
        let mut tokens = Tokens::default();
        let rotation = Rotation::Always { grace: Duration::ZERO };
        let grant = tokens.grant("c", Some("a b".into()));
        let token = tokens.issue_refresh(grant);
        let mut redeem = |client, scope| tokens.redeem(&token, client, scope, rotation);
        assert_eq!(redeem("d", None).unwrap_err(), Refused::Dead);
        assert_eq!(redeem("c", Some("a c")).unwrap_err(), Refused::Scope);
        assert_eq!(redeem("c", Some("b")).unwrap().scope.as_deref(), Some("b"));
        assert_eq!(tokens.refresh_grant(&token).unwrap().scope.as_deref(), Some("a b"));
    }

    #[test]
    fn revoking_a_refresh_token_revokes_its_access_tokens_but_not_the_other_way_round() {
        let mut tokens = Tokens::default();
        let grant = tokens.grant("c", None);
        let refresh = tokens.issue_refresh(grant.clone());
        let access = tokens.issue_access(grant.clone(), MINUTE);
        let other = tokens.issue_access(grant, MINUTE);
        assert!(tokens.revoke(&access));
        assert!(tokens.check(&access).is_err() && tokens.check(&other).is_ok());
        assert!(tokens.revoke(&refresh) && !tokens.revoke("rt-1-x"));
        assert!(tokens.check(&other).is_err());
        assert!(tokens.redeem(&refresh, "c", None, Rotation::Never).is_err());
    }
}
