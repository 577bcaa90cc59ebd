//! Signals to processes.

use std::{fs, process::Command, time::Duration};

use tokio::time::sleep;

/// Stops a process (`SIGSTOP`), and waits until it stands: one thread after the other hears of it.
pub async fn stop(id: u32) {
    send("-STOP", id);
    while !stands(id) {
        sleep(Duration::from_millis(2)).await;
    }
}

/// Lets a process go on that was stopped (`SIGCONT`).
pub fn go_on(id: u32) {
    send("-CONT", id);
}

fn stands(id: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{id}/task")).expect("the process is there");
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state is behind the name, which is in parentheses.
        stat.rsplit(')').next().is_some_and(|state| state.starts_with(" T"))
    })
}

fn send(signal: &str, id: u32) {
    let sent = Command::new("kill").args([signal, &id.to_string()]).status();
    assert!(sent.expect("kill is there").success());
}
