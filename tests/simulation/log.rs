//! Listens to all that is logged, at every level, and looks for secrets in it.

use std::{
    io,
    sync::{Arc, Mutex, OnceLock},
};

use tracing::{Level, Subscriber};
use tracing_subscriber::fmt::{MakeWriter, format::FmtSpan};

use crate::{canary, probe::SIMULATED, world::World};

/// What was heard. Clones hear together.
#[derive(Clone, Default)]
pub(crate) struct Log {
    heard: Arc<Mutex<Heard>>,
    /// Where it is listened.
    world: Arc<OnceLock<World>>,
}

#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) lines: u64,
    /// How many could not be written.
    pub(crate) lost: u64,
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

    /// From here on it is the log of this world, in which writing it may fail.
    pub(crate) fn is_of(&self, world: &World) {
        let _ = self.world.set(world.fork());
    }

    pub(crate) fn take(&self) -> Heard {
        std::mem::take(&mut self.heard.lock().unwrap())
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
        if self.world.get().is_some_and(World::log_fails) {
            self.heard.lock().unwrap().lost += 1;
            // As `println!` does.
            panic!("{SIMULATED}");
        }
        let line = String::from_utf8_lossy(bytes);
        let mut heard = self.heard.lock().unwrap();
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
