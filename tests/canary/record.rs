//! Keeps all that is said.

use std::{
    error::Error,
    fmt::{Debug, Write as _},
    io,
    sync::{Arc, Mutex},
};

use tower_oauth::BoxError;
use tracing_subscriber::fmt::{MakeWriter, format::FmtSpan};

/// What was said so far. Clones write to the same place.
#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<String>>);

impl Record {
    /// Records every event and span of `tracing`, and every line of `log`, of all crates.
    pub(crate) fn start() -> Self {
        let record = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing::Level::TRACE)
            .with_span_events(FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(record.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        log::set_boxed_logger(Box::new(record.clone())).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        record
    }

    /// Records the `Debug` of something, on one line and on many.
    pub(crate) fn debug(&self, value: impl Debug) {
        self.add(&format!("{value:?}\n{value:#?}\n"));
    }

    /// Records an error with all its causes.
    pub(crate) fn error(&self, error: impl Into<BoxError>) {
        let error = error.into();
        let (mut next, mut text) = (Some(&*error as &dyn Error), String::new());
        while let Some(error) = next {
            let _ = writeln!(text, "{error}\n{error:#}\n{error:?}\n{error:#?}\ncaused by");
            next = error.source();
        }
        self.add(&text);
    }

    /// All of it.
    pub(crate) fn take(&self) -> String {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn add(&self, text: &str) {
        self.0.lock().unwrap().push_str(text);
    }
}

impl<'a> MakeWriter<'a> for Record {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl io::Write for Record {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.add(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl log::Log for Record {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let (level, target) = (record.level(), record.target());
        self.add(&format!("{level} {target}: {}\n", record.args()));
    }

    fn flush(&self) {}
}
