//! The folder and its files, as far as they must be safe: whose they are, who can read them, and
//! what they lie on.

use std::{
    fs::{DirBuilder, File, Metadata, OpenOptions},
    io::{self, ErrorKind::InvalidInput, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

use rustix::{fs::OFlags, process::geteuid};
use zeroize::Zeroizing;

/// Makes the folder if it is missing, and checks it.
pub(super) fn prepare(folder: &Path, any_file_system: bool) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Of the folder itself: a link in its place would lead elsewhere.
    let metadata = folder.symlink_metadata()?;
    if !metadata.is_dir() {
        return refused("it is not a folder (a link to one will not do: give the folder itself)");
    }
    check_owner(&metadata)?;
    if metadata.mode() & 0o022 != 0 {
        return refused("others can write to the folder; `chmod go-w` it");
    }
    if !any_file_system {
        check_file_system(folder)?;
    }
    Ok(())
}

/// Opens a file that is a secret, for reading. `None` if there is none.
pub(super) fn read(path: &Path) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let file = match open(OpenOptions::new().read(true), path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    check_owner(&metadata)?;
    if metadata.mode() & 0o077 != 0 {
        return refused("others can read the file; it may have been read. `chmod 600` it");
    }
    if metadata.len() > FILE_CAP {
        return refused("it is larger than 1 MiB");
    }
    let room = usize::try_from(metadata.len()).unwrap_or_default() + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(FILE_CAP).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Opens the file to lock, and makes it if it is missing.
pub(super) fn open_lock(path: &Path) -> io::Result<File> {
    let file = open(OpenOptions::new().read(true).write(true).create(true), path)?;
    check_owner(&file.metadata()?)?;
    Ok(file)
}

/// Makes a new file that only its owner can read.
pub(super) fn create(path: &Path) -> io::Result<File> {
    open(OpenOptions::new().write(true).create_new(true), path)
}

/// Opens a regular file, not what a link leads to.
fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    // Not to wait for a writer, should it be a pipe.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let file = match options.mode(0o600).custom_flags(flags).open(path) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return refused("it is a symbolic link");
        }
        outcome => outcome?,
    };
    if file.metadata()?.is_file() { Ok(file) } else { refused("it is not a regular file") }
}

fn check_owner(metadata: &Metadata) -> io::Result<()> {
    if metadata.uid() == geteuid().as_raw() {
        return Ok(());
    }
    refused("it belongs to another user")
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn check_file_system(folder: &Path) -> io::Result<()> {
    let kind = rustix::fs::statfs(folder)?.f_type;
    // The kernel's constants have 32 bits; the field is signed and wider on some machines.
    let kind = u32::try_from(i128::from(kind) & 0xffff_ffff).unwrap_or_default();
    match UNSAFE_FILE_SYSTEMS.iter().find(|(magic, _)| *magic == kind) {
        None => Ok(()),
        Some((_, name)) => Err(io::Error::new(
            InvalidInput,
            format!(
                "it is on {name}, where locks and renames may not hold; use a local disk, or \
                 danger_any_file_system()"
            ),
        )),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn check_file_system(_: &Path) -> io::Result<()> {
    Ok(())
}

fn refused<T>(reason: &'static str) -> io::Result<T> {
    Err(io::Error::new(InvalidInput, reason))
}

pub(super) const FILE_CAP: u64 = 1024 * 1024;

/// Network and user-space file systems, by their number in `statfs(2)`.
#[cfg(any(target_os = "linux", target_os = "android"))]
const UNSAFE_FILE_SYSTEMS: [(u32, &str); 15] = [
    (0x6969, "NFS"),
    (0xff53_4d42, "CIFS"),
    (0x517b, "SMB"),
    (0xfe53_4d42, "SMB2"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9P"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "kAFS"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
    (0x7461_636f, "OCFS2"),
    (0x0116_1970, "GFS2"),
    (0x7375_7245, "Coda"),
    (0x786f_4256, "a VirtualBox share"),
    (0xbacb_acbc, "a VMware share"),
];

#[cfg(test)]
mod tests;
