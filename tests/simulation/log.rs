//! Listens to all that is logged, at every level, and looks for secrets in it.

use std::{
    io,
    sync::{Arc, Mutex},
};

use tracing::{Level, Subscriber};
use tracing_subscriber::fmt::{MakeWriter, format::FmtSpan};

use crate::canary;

/// What was heard. Clones hear together.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Heard>>);

#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) lines: u64,
    /// The first lines that hold a secret.
    pub(crate) leaks: Vec<String>,
}

impl Log {
    /// A subscriber that writes here.
    pub(crate) fn subscriber(&self) -> impl Subscriber + Send + Sync + use<> {
        tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_span_events(FmtSpan::NEW | FmtSpan::CLOSE)
            .with_ansi(false)
            .without_time()
            .with_writer(self.clone())
            .finish()
    }

    pub(crate) fn take(&self) -> Heard {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        let mut heard = self.0.lock().unwrap();
        heard.lines += 1;
        if let Some(how) = canary::find(&line).filter(|_| heard.leaks.len() < 3) {
            heard.leaks.push(format!("{how}: {line}"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
