//! What tests need: the servers, and a client process whose clocks they shift.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command as StdCommand, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};
use tower_oauth::testing::{AuthorizationServer, ProtectedApi};

use crate::signal;

/// Two servers, and a process that has a token of the one for the other.
pub(crate) struct Parent {
    pub(crate) issuer: AuthorizationServer,
    pub(crate) api: ProtectedApi,
    child: Child,
    to_child: ChildStdin,
    from_child: Lines<BufReader<ChildStdout>>,
    shifts: PathBuf,
}

/// How far the clocks of the process are from the machine's, in nanoseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Shifts {
    pub(crate) boot: i64,
    pub(crate) wall: i64,
    /// By how much every other reading of the wall clock is behind the others.
    pub(crate) backwards: i64,
}

impl Shifts {
    /// The machine slept for so many seconds: only the monotonic clock does not know.
    pub(crate) fn slept(seconds: i64) -> Self {
        let time = seconds * SECOND;
        Self { boot: time, wall: time, backwards: 0 }
    }

    /// Somebody set the wall clock.
    pub(crate) fn set_wall(seconds: i64) -> Self {
        Self { wall: seconds * SECOND, ..Self::default() }
    }
}

pub(crate) const SECOND: i64 = 1_000_000_000;

impl Parent {
    /// The servers' tokens live this long. The process has its first one.
    pub(crate) async fn start(lifetime: Duration) -> Self {
        let issuer = AuthorizationServer::start().await.unwrap();
        issuer.lifetime(lifetime);
        let api = ProtectedApi::start(&issuer).await.unwrap();
        let shifts = temporary("shifts");
        fs::write(&shifts, [0; 24]).unwrap();
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["child::child", "--exact", "--ignored", "--nocapture"])
            .env("TEST_ENDPOINT", issuer.token_endpoint())
            .env("TEST_API", api.url())
            .env("TEST_CLOCK_SHIFTS", &shifts)
            .env("LD_PRELOAD", shim())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (to_child, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let from_child = BufReader::new(stdout).lines();
        let mut parent = Self { issuer, api, child, to_child, from_child, shifts };
        assert_eq!(parent.ask("ready").await, "Ok(())");
        parent
    }

    /// Tells the process to do something, and gives what it says to that.
    pub(crate) async fn ask(&mut self, what: &str) -> String {
        self.tell(what).await;
        self.answer().await
    }

    pub(crate) async fn tell(&mut self, what: &str) {
        self.to_child.write_all(format!("{what}\n").as_bytes()).await.unwrap();
    }

    pub(crate) async fn answer(&mut self) -> String {
        loop {
            let line = timeout(Duration::from_secs(60), self.from_child.next_line()).await;
            let line = line.expect("it answers in time").unwrap().expect("it is alive");
            // What the test harness prints is not meant for us. It may stand on the same line.
            if let Some((_, answer)) = line.split_once("> ") {
                return answer.to_owned();
            }
        }
    }

    /// Sends a request, which must be served.
    pub(crate) async fn get(&mut self) {
        assert_eq!(self.ask("get").await, "200 OK");
    }

    pub(crate) fn shift(&self, to: Shifts) {
        let bytes = [to.boot, to.wall, to.backwards].map(i64::to_ne_bytes).concat();
        // In place: the process has this very file mapped.
        let file = fs::OpenOptions::new().write(true).open(&self.shifts).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
    }

    /// What the clocks of the process say: boot, wall, coarse wall, and monotonic since its start.
    pub(crate) async fn clocks(&mut self) -> [i64; 4] {
        let said = self.ask("clocks").await;
        let times: Vec<i64> = said.split(' ').map(|time| time.parse().unwrap()).collect();
        times.try_into().unwrap()
    }

    pub(crate) async fn stop(&self) {
        signal::stop(self.child.id().unwrap()).await;
    }

    pub(crate) fn go_on(&self) {
        signal::go_on(self.child.id().unwrap());
    }

    /// How many token requests there were.
    pub(crate) fn token_requests(&self) -> usize {
        self.issuer.token_request_count()
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.shifts));
    }
}

fn temporary(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}-{next}-{name}", std::process::id()))
}

/// Compiles the shim, once a process.
fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        let (source, own) =
            (concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clocks/shim.c"), temporary("shim"));
        let compiled = StdCommand::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
            .arg(&own)
            .arg(source)
            .output()
            .expect("`cc`, a C compiler, can be started: run ./tests/run, which installs it");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        // Under one name in the end, so that they do not pile up.
        let shim = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clock-shim.so");
        fs::rename(&own, &shim).unwrap();
        shim
    })
}
