//! One record's files, and how they change.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use zeroize::Zeroizing;

use super::{
    super::{Key, fail_point::fail_point},
    folder::{create, open_lock, read},
};

/// The files of one record. Each has a fixed name, so that whatever is killed, there are never more.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    folder: PathBuf,
    /// The record.
    pub(super) current: PathBuf,
    /// The record before it.
    pub(super) previous: PathBuf,
    /// The record to be, until it is written.
    temporary: PathBuf,
    /// One that was damaged.
    aside: PathBuf,
    lock: PathBuf,
}

/// The lock of a record, which lasts until this is dropped.
#[derive(Debug)]
pub(in super::super) struct RecordLock(File);

impl RecordLock {
    /// The open file, as the stdin of a child.
    #[cfg(all(test, feature = "testing"))]
    pub(super) fn share(&self) -> io::Result<std::process::Stdio> {
        Ok(self.0.try_clone()?.into())
    }
}

impl Drop for RecordLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that was forked in the meantime has it open, too,
        // and would keep the lock for as long as it lives.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl Paths {
    pub(super) fn new(folder: &Path, key: &Key) -> Self {
        let file = |end: &str| folder.join(format!("{key}.{end}"));
        Self {
            folder: folder.to_owned(),
            current: file("token"),
            previous: file("previous"),
            temporary: file("new"),
            aside: file("damaged"),
            lock: file("lock"),
        }
    }

    pub(super) fn current(&self) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        read(&self.current)
    }

    pub(super) fn previous(&self) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
        read(&self.previous)
    }

    /// Takes the lock, unless another process has it, and sweeps what a killed process left.
    pub(super) fn try_lock(&self) -> io::Result<Option<RecordLock>> {
        let file = open_lock(&self.lock)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let lock = RecordLock(file);
        self.sweep()?;
        Ok(Some(lock))
    }

    /// Whether a lock that is held here keeps others out.
    pub(super) fn lock_works(&self) -> io::Result<bool> {
        let second = open_lock(&self.lock)?;
        Ok(flock(&second, FlockOperation::NonBlockingLockExclusive).is_err())
    }

    /// Puts these bytes in the place of the record, durably. Under the lock.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<()> {
        self.write_temporary(bytes)?;
        fail_point("temporary-written");
        self.keep_previous()?;
        fail_point("previous-kept");
        fs::rename(&self.temporary, &self.current)?;
        fail_point("renamed");
        // The name is in the folder, and the folder is a file of its own.
        File::open(&self.folder)?.sync_all()
    }

    /// Removes the record and all that is kept of earlier ones, durably. Under the lock, whose file
    /// stays: another process may be waiting for it.
    pub(super) fn remove(&self) -> io::Result<()> {
        // The record last: while there is one, whoever is told that this failed can try again.
        for file in [&self.temporary, &self.previous, &self.aside, &self.current] {
            remove(file)?;
        }
        File::open(&self.folder)?.sync_all()
    }

    /// Keeps the damaged record under another name, and puts these bytes in its place. Under the
    /// lock.
    pub(super) fn replace_damaged(&self, bytes: &[u8]) -> io::Result<()> {
        remove(&self.aside)?;
        fs::hard_link(&self.current, &self.aside)?;
        // Not by `write`: the previous one must stay, in case this process is killed too.
        self.write_temporary(bytes)?;
        fs::rename(&self.temporary, &self.current)?;
        File::open(&self.folder)?.sync_all()
    }

    fn write_temporary(&self, bytes: &[u8]) -> io::Result<()> {
        self.sweep()?;
        let mut file = create(&self.temporary)?;
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if written.is_err() {
            // The disk may be full: it needs the room.
            let _ = self.sweep();
        }
        written
    }

    /// There is a record under its name at every moment: the previous one becomes a second name of
    /// the same file.
    fn keep_previous(&self) -> io::Result<()> {
        if !self.current.try_exists()? {
            return Ok(());
        }
        remove(&self.previous)?;
        match fs::hard_link(&self.current, &self.previous) {
            // Some file systems have no second names. The record is safe without.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            outcome => outcome,
        }
    }

    fn sweep(&self) -> io::Result<()> {
        remove(&self.temporary)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests;
