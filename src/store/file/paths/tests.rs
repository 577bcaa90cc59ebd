use super::{
    super::{super::stamp::Stamp, temporary::TemporaryFolder},
    *,
};
use crate::source::Identity;

fn paths(folder: &TemporaryFolder) -> Paths {
    let key = Stamp::new(&Identity::new("https://as.example/token", "c"), "").key();
    Paths::new(folder.path(), &key)
}

/// A folder cannot have a second name either, and is refused as file systems without them refuse
/// files.
#[test]
fn where_there_are_no_second_names_no_previous_record_is_kept() {
    let folder = TemporaryFolder::new().unwrap();
    let paths = paths(&folder);
    fs::create_dir(&paths.current).unwrap();
    let refused = fs::hard_link(&paths.current, &paths.previous).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    paths.keep_previous().unwrap();
}

#[test]
fn a_previous_record_that_cannot_be_kept_for_another_reason_is_an_error() {
    let folder = TemporaryFolder::new().unwrap();
    let previous = folder.path().join("missing").join("previous");
    let paths = Paths { previous, ..paths(&folder) };
    // There is nothing to be kept yet.
    paths.keep_previous().unwrap();
    paths.write(b"first").unwrap();
    assert_eq!(paths.keep_previous().unwrap_err().kind(), io::ErrorKind::NotFound);
    paths.write(b"second").unwrap_err();
    assert_eq!(fs::read(&paths.current).unwrap(), b"first");
}

/// Whoever is told that a secret is gone must not find it there.
#[test]
fn what_cannot_be_removed_is_an_error() {
    let folder = TemporaryFolder::new().unwrap();
    let paths = paths(&folder);
    paths.write(b"first").unwrap();
    // The one file that is not a file.
    fs::create_dir(&paths.aside).unwrap();
    paths.remove().unwrap_err();
    assert!(paths.current.exists(), "the record goes last");
    fs::remove_dir(&paths.aside).unwrap();
    paths.remove().unwrap();
    paths.remove().unwrap();
    assert!(!paths.current.exists());
}
