//! Places where a test kills or stops a process.

/// With the feature `testing`, stops here if the environment says so, by
/// `TOWER_OAUTH_FAIL_POINT=name:count:path`, when this place is reached for the `count`th time. That
/// it does is told by making the file, and it goes on when the file is gone.
///
/// It blocks the thread, as a stopped process does.
#[cfg(feature = "testing")]
pub(super) fn fail_point(name: &str) {
    use std::sync::atomic::{AtomicU32, Ordering};

    static REACHED: AtomicU32 = AtomicU32::new(0);

    let Ok(wanted) = std::env::var("TOWER_OAUTH_FAIL_POINT") else { return };
    let mut parts = wanted.splitn(3, ':');
    let (Some(wanted), Some(count), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
        return;
    };
    if wanted != name {
        return;
    }
    let reached = REACHED.fetch_add(1, Ordering::Relaxed) + 1;
    if count.parse() == Ok(reached) && std::fs::write(path, name).is_ok() {
        while std::path::Path::new(path).exists() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

#[cfg(not(feature = "testing"))]
pub(super) fn fail_point(_: &str) {}
