//! A folder that is gone at the end.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tower_oauth::store::{FileStore, KeyRing};

/// A folder of its own, removed with all that is in it.
pub(crate) struct Temporary(PathBuf);

impl Temporary {
    pub(crate) fn new() -> Self {
        let name: String = std::iter::repeat_with(fastrand::alphanumeric).take(16).collect();
        let path = std::env::temp_dir().join(format!("tower-oauth-store-{name}"));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Where a store keeps its files.
    pub(crate) fn tokens(&self) -> PathBuf {
        self.0.join("tokens")
    }

    pub(crate) fn store(&self) -> FileStore {
        FileStore::new(self.tokens(), ring())
    }

    /// The store's files with this ending.
    pub(crate) fn files(&self, ending: &str) -> Vec<PathBuf> {
        let Ok(files) = fs::read_dir(self.tokens()) else { return Vec::new() };
        let files = files.map(|file| file.unwrap().path());
        files.filter(|path| path.to_str().unwrap().ends_with(ending)).collect()
    }

    /// The store's only file with this ending.
    pub(crate) fn only(&self, ending: &str) -> PathBuf {
        let [path] = <[PathBuf; 1]>::try_from(self.files(ending)).expect("exactly one file");
        path
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn ring() -> KeyRing {
    KeyRing::new("k1", "01".repeat(32)).unwrap()
}
