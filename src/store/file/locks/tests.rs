use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use super::{
    super::{super::stamp::Stamp, temporary::TemporaryFolder},
    *,
};
use crate::source::Identity;

/// Another process takes the file away between the lock and the look whether it works. That stands
/// for a file system that takes every lock and keeps nobody out.
#[tokio::test]
async fn f36_a_lock_that_keeps_nobody_out_is_refused() {
    let folder = TemporaryFolder::new().unwrap();
    let locks = Locks::new(folder.path().to_owned());
    let key = Stamp::new(&Identity::new("https://as.example/token", "c"), "").key();
    let all = u32::try_from(BLOCKING).unwrap();
    let permits = locks.permits.clone();
    let before = permits.clone().acquire_many_owned(all).await.unwrap();
    let take_away = async {
        // The file operations take their turns: here is one between the two of the lock.
        drop(before);
        let _between = permits.acquire_many(all).await.unwrap();
        fs::remove_file(folder.path().join(format!("{key}.lock"))).unwrap();
    };
    let deadline = Instant::now();
    let (lock, ()) = tokio::join!(locks.lock(&key, deadline), take_away);
    let error = lock.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.to_string().contains("locks keep nobody out"), "{error}");
    // It is tried again the next time.
    locks.lock(&key, deadline).await.unwrap();
}

/// What a child has that was forked while the lock was held, and that runs nothing else: the same open
/// file. The kernel counts it as a holder of the lock for as long as it lives.
#[tokio::test]
async fn f104_a_forked_child_does_not_keep_a_lock() {
    let folder = TemporaryFolder::new().unwrap();
    let locks = Locks::new(folder.path().to_owned());
    let key = Stamp::new(&Identity::new("https://as.example/token", "c"), "").key();
    let lock = locks.lock(&key, Instant::now()).await.unwrap();
    let script = "import os, time\nprint(os.fork(), flush=True)\ntime.sleep(60)";
    let mut python = Command::new("python3")
        .args(["-c", script])
        .stdin(lock.share().unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 is there");
    let mut said = BufReader::new(python.stdout.take().unwrap()).lines();
    let mut forked = [said.next().unwrap().unwrap(), said.next().unwrap().unwrap()];
    forked.sort_by_key(String::len);
    locks.lock(&key, Instant::now()).await.unwrap_err();
    drop(lock);
    let outcome = locks.lock(&key, Instant::now()).await;
    python.kill().unwrap();
    python.wait().unwrap();
    Command::new("kill").arg(&forked[1]).status().unwrap();
    outcome.unwrap();
}
