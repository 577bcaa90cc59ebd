//! Ends a test that logs a secret.
//!
//! A test that says `use log_watch as _;` is watched: every event and span of `tracing` and every
//! line of `log`, of all crates and at all levels, is searched for what looks like a secret. If one
//! is found, the line is printed and the process ends.
//!
//! `tests/canary` looks for secrets that it knows, in every encoding and in more places than logs.
//! This looks at every other test, for less.

use std::{fmt::Write as _, io, process::abort, sync::OnceLock};

use regex::bytes::RegexSet;
use tracing_subscriber::fmt::format::FmtSpan;

/// What no log may hold.
const SECRETS: [&str; 5] = [
    // A token of the fake authorization server.
    r"(?-u)\b(?:at|rt)-[0-9]+-[A-Za-z0-9]{24}",
    // The value of an `Authorization` field.
    r"(?i-u)\b(?:Basic|Bearer|DPoP) +[A-Za-z0-9._~+/=-]{16}",
    // A signed token, assertion or proof.
    r"(?-u)\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8}",
    // A field of a form.
    r"(?-u)\b(?:client_secret|client_assertion|assertion|(?:access|refresh|subject|actor)_token|token)=[^&\s]{4}",
    // A member of a JSON object, escaped or not.
    r#"(?-u)(?:access_token|refresh_token|id_token)\\?" *: *\\?"[^"\\]"#,
];

fn patterns() -> &'static RegexSet {
    static PATTERNS: OnceLock<RegexSet> = OnceLock::new();
    PATTERNS.get_or_init(|| RegexSet::new(SECRETS).expect("the patterns can be read"))
}

/// Whether a line of a log holds a secret.
pub fn holds_secret(line: &[u8]) -> bool {
    patterns().is_match(line)
}

#[ctor::ctor(unsafe)]
fn watch() {
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::NEW)
        .with_ansi(false)
        .without_time()
        .with_writer(|| Watch)
        .finish();
    tracing::subscriber::set_global_default(subscriber).expect("nobody else listens yet");
    log::set_logger(&Watch).expect("nobody else listens yet");
    log::set_max_level(log::LevelFilter::Trace);
}

/// Reads what is logged, and keeps nothing.
struct Watch;

impl io::Write for Watch {
    /// Called once for each event, with all of it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if holds_secret(line) {
            eprintln!("a secret was logged: {}", String::from_utf8_lossy(line));
            abort();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl log::Log for Watch {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut line = String::new();
        let _ = write!(line, "{} {}", record.target(), record.args());
        let _ = io::Write::write(&mut Watch, line.as_bytes());
    }

    fn flush(&self) {}
}
