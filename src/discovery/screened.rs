use std::sync::OnceLock;

use super::trust::Trust;
use crate::{error::ConfigError, http::Transport};

/// A client that connects only where metadata may lead, made when it is first needed.
#[derive(Default)]
pub(super) struct Screened(OnceLock<Transport>);

impl Screened {
    /// The transport that was set, or else this client.
    pub(super) fn unless(
        &self,
        set: Option<&Transport>,
        trust: impl FnOnce() -> Result<Trust, ConfigError>,
    ) -> Result<Transport, ConfigError> {
        if let Some(transport) = set.or(self.0.get()) {
            return Ok(transport.clone());
        }
        let transport = Transport::screened(trust()?.trusted())?;
        Ok(self.0.get_or_init(|| transport).clone())
    }
}
