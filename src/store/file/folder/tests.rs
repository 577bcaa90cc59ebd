use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, chown, symlink},
    path::PathBuf,
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use super::*;

/// A folder of its own, removed at the end.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Self {
        let name: String = std::iter::repeat_with(fastrand::alphanumeric).take(16).collect();
        let path = std::env::temp_dir().join(format!("tower-oauth-folder-{name}"));
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o777
}

#[test]
fn rfr_14_a_folder_is_made_for_its_owner_alone() {
    let root = Temporary::new();
    let folder = root.0.join("tokens");
    prepare(&folder, false).unwrap();
    assert_eq!(mode(&folder), 0o700);
    prepare(&folder, false).unwrap();
}

#[test]
fn f60_a_folder_that_others_can_write_to_is_refused() {
    let root = Temporary::new();
    chmod(&root.0, 0o755);
    prepare(&root.0, false).unwrap();
    for unsafe_mode in [0o775, 0o757, 0o777] {
        chmod(&root.0, unsafe_mode);
        let error = prepare(&root.0, false).unwrap_err();
        assert!(error.to_string().contains("chmod go-w"), "{unsafe_mode:o}: {error}");
    }
}

#[test]
fn f60_a_link_in_the_place_of_the_folder_or_a_file_is_refused() {
    let root = Temporary::new();
    let (folder, link) = (root.0.join("tokens"), root.0.join("link"));
    prepare(&folder, false).unwrap();
    symlink(&folder, &link).unwrap();
    assert!(prepare(&link, false).unwrap_err().to_string().contains("not a folder"));

    let (file, link) = (folder.join("file"), folder.join("link"));
    drop(create(&file).unwrap());
    symlink(&file, &link).unwrap();
    for error in [read(&link).map(drop).unwrap_err(), open_lock(&link).map(drop).unwrap_err()] {
        assert_eq!(error.to_string(), "it is a symbolic link");
    }
    assert!(create(&link).is_err());
    // Nor is one that leads nowhere yet.
    symlink(root.0.join("elsewhere"), folder.join("dangling")).unwrap();
    open_lock(&folder.join("dangling")).unwrap_err();
    assert!(!root.0.join("elsewhere").exists());
}

#[test]
fn rfr_14_f60_a_file_that_others_can_read_is_refused() {
    let root = Temporary::new();
    let path = root.0.join("file");
    drop(create(&path).unwrap());
    assert_eq!(mode(&path), 0o600);
    assert!(read(&path).unwrap().is_some());
    for unsafe_mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
        chmod(&path, unsafe_mode);
        let error = read(&path).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{unsafe_mode:o}: {error}");
    }
}

#[test]
fn f60_other_users_files_and_folders_are_refused() {
    if !geteuid().is_root() {
        return; // only root can give files away
    }
    let root = Temporary::new();
    let path = root.0.join("file");
    drop(create(&path).unwrap());
    chown(&path, Some(65_534), None).unwrap();
    assert!(read(&path).unwrap_err().to_string().contains("another user"));
    assert!(open_lock(&path).unwrap_err().to_string().contains("another user"));
    chown(&root.0, Some(65_534), None).unwrap();
    assert!(prepare(&root.0, false).unwrap_err().to_string().contains("another user"));
}

#[test]
fn what_is_no_file_is_refused_without_waiting() {
    let root = Temporary::new();
    assert!(read(&root.0).is_err());
    let socket = root.0.join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert!(read(&socket).is_err());
}

#[test]
fn a_file_of_exactly_the_largest_size_is_read() {
    let root = Temporary::new();
    let path = root.0.join("file");
    let file = create(&path).unwrap();
    file.set_len(FILE_CAP).unwrap();
    assert_eq!(read(&path).unwrap().unwrap().len() as u64, FILE_CAP);
    file.set_len(FILE_CAP + 1).unwrap();
    assert!(read(&path).unwrap_err().to_string().contains("1 MiB"));
}

/// To open a pipe is to wait for who writes to it.
#[test]
fn a_pipe_in_the_place_of_a_file_is_refused_without_waiting() {
    let root = Temporary::new();
    let pipe = root.0.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let (sender, outcome) = mpsc::channel();
    let path = pipe.clone();
    thread::spawn(move || sender.send(read(&path).map(drop)));
    let error = outcome.recv_timeout(Duration::from_secs(5)).unwrap().unwrap_err();
    assert_eq!(error.to_string(), "it is not a regular file");
    assert_eq!(open_lock(&pipe).unwrap_err().to_string(), "it is not a regular file");
}

/// Nobody can make one there. That it is not there afterwards is not the reason.
#[cfg(target_os = "linux")]
#[test]
fn a_folder_that_cannot_be_made_says_why() {
    let folder = Path::new("/sys/tower-oauth");
    let error = prepare(folder, true).unwrap_err();
    let expected = [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem];
    assert!(expected.contains(&error.kind()), "{error}");
}

/// `/dev/fuse` mounts need privileges that tests do not have; `/proc` stands for what is not on the
/// list, and the list is checked by its numbers.
#[cfg(target_os = "linux")]
#[test]
fn f36_network_and_user_space_file_systems_are_refused() {
    check_file_system(Path::new("/proc")).unwrap();
    check_file_system(&std::env::temp_dir()).unwrap();
    let mut numbers: Vec<_> = UNSAFE_FILE_SYSTEMS.iter().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), UNSAFE_FILE_SYSTEMS.len());
    // statfs(2)
    for known in [0x6969, 0xff53_4d42, 0x6573_5546] {
        assert!(numbers.contains(&known));
    }
}
