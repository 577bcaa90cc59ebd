//! The keychain, at arm's length: it may ask the user for a password first, hang, or not be there.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use keyring_core::{CredentialStore, Entry, Error as KeyringError};
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout_at},
};
use zeroize::Zeroizing;

use crate::{
    error::{Error, ErrorKind},
    secret::Secret,
};

#[derive(Clone)]
pub(super) struct Keychain {
    /// What the entries have in common.
    pub(super) service: String,
    /// How many bytes an entry takes.
    pub(super) limit: usize,
    pub(super) timeout: Duration,
    /// `None` is the system's.
    given: Option<Arc<CredentialStore>>,
    /// The system's, once it has been opened.
    opened: Arc<Mutex<Option<Arc<CredentialStore>>>>,
    permits: Arc<Semaphore>,
}

impl Keychain {
    pub(super) fn new(given: Option<Arc<CredentialStore>>) -> Self {
        Self {
            service: "tower-oauth".to_owned(),
            limit: LIMIT,
            timeout: TIMEOUT,
            given,
            opened: Arc::default(),
            permits: Arc::new(Semaphore::new(CALLS)),
        }
    }

    /// Runs calls of the keychain on a thread of their own, and waits for them as long as is
    /// allowed. They go on when nobody waits any more, and what they hold is held until then.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        calls: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + self.timeout;
        let permit = timeout_at(deadline, self.permits.clone().acquire_owned());
        let Ok(Ok(permit)) = permit.await else { return Err(self.late()) };
        let (sender, answer) = oneshot::channel();
        let keychain = self.clone();
        // Not one of tokio's: the end of its runtime waits for those, and a keychain that shows a
        // prompt may never answer.
        let thread = thread::Builder::new().name("keychain".to_owned()).spawn(move || {
            let outcome = calls(&keychain);
            drop(permit);
            let _ = sender.send(outcome);
        });
        thread.map_err(|error| failed("the keychain cannot be asked").with_source(error))?;
        match timeout_at(deadline, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(failed("the keychain's library has panicked")),
            Err(_) => Err(self.late()),
        }
    }

    pub(super) fn read(&self, name: &str) -> Result<Option<Secret>, Error> {
        let bytes = match self.entry(name).and_then(|entry| entry.get_secret()) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(KeyringError::NoEntry) => return Ok(None),
            Err(error) => return Err(self.refusal("read", error)),
        };
        match str::from_utf8(&bytes) {
            Ok(text) => Ok(Some(text.into())),
            Err(_) => {
                Err(failed(format!("the keychain's entry {:?} {name} is no text", self.service)))
            }
        }
    }

    pub(super) fn write(&self, name: &str, text: &Secret) -> Result<(), Error> {
        let bytes = text.expose().as_bytes();
        if bytes.len() > self.limit {
            return Err(too_large(bytes.len(), self.limit));
        }
        let written = self.entry(name).and_then(|entry| entry.set_secret(bytes));
        written.map_err(|error| match error {
            KeyringError::TooLong(_, limit) => too_large(bytes.len(), limit),
            other => self.refusal(&format!("written ({} bytes)", bytes.len()), other),
        })
    }

    pub(super) fn delete(&self, name: &str) -> Result<(), Error> {
        match self.entry(name).and_then(|entry| entry.delete_credential()) {
            Ok(()) | Err(KeyringError::NoEntry) => Ok(()),
            Err(error) => Err(self.refusal("deleted", error)),
        }
    }

    fn entry(&self, name: &str) -> keyring_core::Result<Entry> {
        self.store()?.build(&self.service, name, None)
    }

    fn store(&self) -> keyring_core::Result<Arc<CredentialStore>> {
        let opened = || self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(store) = self.given.clone().or_else(|| opened().clone()) {
            return Ok(store);
        }
        let store = open()?;
        *opened() = Some(store.clone());
        Ok(store)
    }

    /// What the keychain said. Only what cannot hold the entry itself is shown.
    fn refusal(&self, what: &str, error: KeyringError) -> Error {
        // The session may have ended, and another one begun: the next call opens it again.
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (reason, source) = match error {
            KeyringError::NoStorageAccess(source) => {
                ("it is locked, or this process may not use it. Unlock it", Some(source))
            }
            KeyringError::PlatformFailure(source) => {
                ("it does not work here; is there a session, with a keychain in it?", Some(source))
            }
            KeyringError::BadDataFormat(bytes, _) | KeyringError::BadEncoding(bytes) => {
                drop(Zeroizing::new(bytes));
                ("the entry is damaged; delete it to start over", None)
            }
            KeyringError::Ambiguous(_) => ("there are several such entries; delete all", None),
            KeyringError::NoEntry => ("the entry is gone", None),
            KeyringError::NotSupportedByStore(_) => ("it cannot do so on this system", None),
            _ => ("it refused", None),
        };
        let error = failed(format!(
            "the keychain's entry of the service {:?} cannot be {what}: {reason}",
            self.service
        ));
        if let Some(source) = source { error.with_source(source) } else { error }
    }

    fn late(&self) -> Error {
        failed(format!(
            "the keychain does not answer within {:?}; perhaps it asks somebody to unlock it",
            self.timeout
        ))
    }
}

/// Opens the keychain of this system.
fn open() -> keyring_core::Result<Arc<CredentialStore>> {
    #[cfg(target_os = "macos")]
    return Ok(apple_native_keyring_store::keychain::Store::new()?);
    #[cfg(not(any(target_os = "macos", target_os = "ios", target_os = "android")))]
    return Ok(zbus_secret_service_keyring_store::Store::new()?);
    #[cfg(any(target_os = "ios", target_os = "android"))]
    Err(KeyringError::NotSupportedByStore(String::new()))
}

fn too_large(size: usize, limit: impl fmt::Display) -> Error {
    failed(format!(
        "the token is too large for the keychain: its record has {size} bytes, and an entry at \
         most {limit}. `FileStore` takes it"
    ))
}

pub(super) fn failed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Store, message.into())
}

/// As for files.
const LIMIT: usize = 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(3);
/// How many calls are under way at once, those that nobody waits for any more included.
const CALLS: usize = 4;

#[cfg(test)]
mod tests;
