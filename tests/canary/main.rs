//! No secret leaves: not in what is logged at any level by any crate, not in an error, not in the
//! `Debug` of anything, however it is encoded.
//!
//! Every credential in here is a canary. All that the crate and those below it say is kept, and
//! then searched.
#![cfg(test)]
#![cfg(all(feature = "testing", feature = "reqwest", feature = "tracing"))]
#![allow(clippy::disallowed_methods, reason = "tests spawn")]

mod calls;
mod kept;
mod newer;
mod record;
mod run;
mod scan;

use record::Record;
use scan::Haystack;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_01_f56_f57_no_secret_is_logged_or_shown() {
    let record = Record::start();
    let canaries = run::everything(&record).await;
    let text = record.take();

    // The test sees what it should: our own events, those of the clients below, and errors.
    for expected in [
        "token obtained",
        "token fetch failed",
        "token refused by a server",
        "request sent again",
        "starting new connection",
        "hyper_util::client::legacy",
        "[redacted]",
        "OAuthError {",
        "caused by",
    ] {
        assert!(text.contains(expected), "nothing was recorded of {expected:?}");
    }
    assert!(canaries.len() > 20, "{}", canaries.len());
    let haystack = Haystack::new(&text);
    let found: Vec<_> = canaries.iter().flat_map(|canary| haystack.find(canary)).collect();
    assert!(found.is_empty(), "{found:#?}");
}
