//! A keychain for tests: around another one, locked, slow or small as it is told.

use std::{
    any::Any,
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use keyring_core::{
    Credential, CredentialStore, Entry, Error, Result,
    api::{CredentialApi, CredentialStoreApi},
    mock,
};
use tower_oauth::store::KeyringStore;

use crate::temporary::Temporary;

/// A keychain, with a folder for locks. Both are gone at the end.
pub(crate) struct Keychain {
    inner: Arc<CredentialStore>,
    trouble: Arc<Mutex<Trouble>>,
    folder: Temporary,
    entries: Mutex<Vec<Entry>>,
    calls: Arc<Calls>,
}

/// How many calls there are at once.
#[derive(Default)]
struct Calls {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// What goes wrong.
#[derive(Clone, Copy, Default)]
pub(crate) struct Trouble {
    pub(crate) locked: bool,
    pub(crate) damaged: bool,
    pub(crate) forgets: bool,
    pub(crate) read_takes: Duration,
    pub(crate) write_takes: Duration,
    /// How many bytes an entry takes.
    pub(crate) limit: Option<u32>,
}

impl Keychain {
    /// One in memory.
    pub(crate) fn new() -> Arc<Self> {
        Self::around(mock::Store::new().unwrap())
    }

    pub(crate) fn around(inner: Arc<CredentialStore>) -> Arc<Self> {
        let (trouble, entries) = (Arc::default(), Mutex::default());
        let (folder, calls) = (Temporary::new(), Arc::default());
        Arc::new(Self { inner, trouble, folder, entries, calls })
    }

    /// The store of one process that uses it.
    pub(crate) fn store(self: &Arc<Self>) -> KeyringStore {
        KeyringStore::with(self.folder.tokens(), self.clone())
    }

    pub(crate) fn trouble(&self, change: impl FnOnce(&mut Trouble)) {
        change(&mut self.trouble.lock().unwrap());
    }

    pub(crate) fn most_at_once(&self) -> usize {
        self.calls.most.load(Ordering::SeqCst)
    }

    /// How many entries there are.
    pub(crate) fn entries(&self) -> usize {
        let entries = self.entries.lock().unwrap();
        let there = entries.iter().filter(|entry| entry.get_secret().is_ok());
        there.map(Entry::get_specifiers).collect::<HashSet<_>>().len()
    }

    pub(crate) fn folder(&self) -> &Temporary {
        &self.folder
    }
}

impl CredentialStoreApi for Keychain {
    fn vendor(&self) -> String {
        self.inner.vendor()
    }

    fn id(&self) -> String {
        self.inner.id()
    }

    fn build(
        &self,
        service: &str,
        user: &str,
        modifiers: Option<&HashMap<&str, &str>>,
    ) -> Result<Entry> {
        let entry = self.inner.build(service, user, modifiers)?;
        self.entries.lock().unwrap().push(self.inner.build(service, user, modifiers)?);
        let item = Item { entry, trouble: self.trouble.clone(), calls: self.calls.clone() };
        Ok(Entry::new_with_credential(Arc::new(item)))
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl Drop for Keychain {
    fn drop(&mut self) {
        for entry in self.entries.lock().unwrap().iter() {
            let _ = entry.delete_credential();
        }
    }
}

impl fmt::Debug for Keychain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keychain")
    }
}

struct Item {
    entry: Entry,
    trouble: Arc<Mutex<Trouble>>,
    calls: Arc<Calls>,
}

impl Item {
    fn take(&self, time: Duration) {
        let now = self.calls.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.calls.most.fetch_max(now, Ordering::SeqCst);
        thread::sleep(time);
        self.calls.now.fetch_sub(1, Ordering::SeqCst);
    }

    fn trouble(&self) -> Result<Trouble> {
        let trouble = *self.trouble.lock().unwrap();
        if trouble.locked {
            return Err(Error::NoStorageAccess("the collection is locked".into()));
        }
        Ok(trouble)
    }
}

impl CredentialApi for Item {
    fn set_secret(&self, secret: &[u8]) -> Result<()> {
        let trouble = self.trouble()?;
        self.take(trouble.write_takes);
        if let Some(limit) = trouble.limit.filter(|limit| secret.len() > *limit as usize) {
            return Err(Error::TooLong("secret".to_owned(), limit));
        }
        if trouble.forgets { Ok(()) } else { self.entry.set_secret(secret) }
    }

    fn get_secret(&self) -> Result<Vec<u8>> {
        let trouble = self.trouble()?;
        self.take(trouble.read_takes);
        let secret = self.entry.get_secret()?;
        if trouble.damaged {
            return Err(Error::BadDataFormat(secret, "the padding is wrong".into()));
        }
        Ok(secret)
    }

    fn delete_credential(&self) -> Result<()> {
        self.trouble()?;
        self.entry.delete_credential()
    }

    fn get_credential(&self) -> Result<Option<Arc<Credential>>> {
        Ok(None)
    }

    fn get_specifiers(&self) -> Option<(String, String)> {
        self.entry.get_specifiers()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

impl fmt::Debug for Item {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Item")
    }
}
