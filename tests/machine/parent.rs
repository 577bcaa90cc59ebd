//! What tests need: a process under test, and the means to make its life hard.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    os::unix::{
        fs::{MetadataExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    net::{
        TcpListener,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    time::{Instant, sleep, timeout},
};

/// A process, while it is prepared.
pub(crate) struct Preparation {
    command: Command,
    folder: PathBuf,
    user: Option<u32>,
}

pub(crate) struct Parent {
    child: Child,
    to_child: OwnedWriteHalf,
    from_child: Lines<BufReader<OwnedReadHalf>>,
    folder: PathBuf,
    user: Option<u32>,
}

impl Preparation {
    /// A process that gets its tokens at this endpoint, and trusts servers that `root` has signed.
    pub(crate) fn new(endpoint: &str, root: &Path) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("machine-{}-{next}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let trusted = folder.join("root.pem");
        fs::copy(root, &trusted).unwrap();
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["child::child", "--exact", "--ignored", "--nocapture"])
            .env("TEST_ENDPOINT", endpoint)
            .env("SSL_CERT_FILE", trusted)
            .env_remove("SSL_CERT_DIR")
            .env("NO_PROXY", "*")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        // All that a log says of its own failures.
        if env::var_os("TEST_KEEP_STDERR").is_none() {
            command.stderr(File::options().write(true).open("/dev/full").unwrap());
        }
        Self { command, folder, user: None }
    }

    pub(crate) fn set(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Another user than root, whom some limits do not bind.
    pub(crate) fn unprivileged(mut self) -> Self {
        if fs::metadata("/proc/self").unwrap().uid() != 0 {
            return self;
        }
        // Of nobody else: the limit counts all of a user's threads.
        let user = 100_000 + std::process::id();
        let program = self.folder.join("program");
        fs::copy(env::current_exe().unwrap(), &program).unwrap();
        let mut command = Command::new(program);
        command.args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::options().write(true).open("/dev/full").unwrap());
        command.uid(user).gid(user).current_dir(&self.folder);
        self.command = command;
        self.user = Some(user);
        self
    }

    /// A token store on disk.
    pub(crate) fn with_store(self) -> Self {
        let store = self.folder.join("store");
        fs::create_dir(&store).unwrap();
        fs::set_permissions(&store, fs::Permissions::from_mode(0o700)).unwrap();
        chown(&store, self.user, self.user).unwrap();
        self.set("TEST_STORE", store)
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) async fn start(self) -> Parent {
        let mut parent = self.hold().await;
        assert_eq!(parent.ask("begin").await, "ok");
        parent
    }

    /// A process that waits for `begin` before it makes anything.
    pub(crate) async fn hold(mut self) -> Parent {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let control = listener.local_addr().unwrap().to_string();
        let child = self.command.env("TEST_CONTROL", control).spawn().unwrap();
        let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        let (from_child, to_child) = stream.into_split();
        let from_child = BufReader::new(from_child).lines();
        Parent { child, to_child, from_child, folder: self.folder, user: self.user }
    }
}

impl Parent {
    /// Tells the process to do something, and returns what it says to that.
    pub(crate) async fn ask(&mut self, what: &str) -> String {
        self.to_child.write_all(format!("{what}\n").as_bytes()).await.unwrap();
        let line = timeout(PATIENCE, self.from_child.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("{what}: no answer")).ok().flatten();
        line.unwrap_or_else(|| panic!("{what}: the process has ended: {:?}", self.child.try_wait()))
    }

    pub(crate) async fn count(&mut self, what: &str) -> u64 {
        self.ask(what).await.parse().unwrap()
    }

    /// Asks until this is the answer; returns how long that took.
    pub(crate) async fn until(&mut self, what: &str, answer: &str, bound: Duration) -> Duration {
        let began = Instant::now();
        loop {
            let said = self.ask(what).await;
            let took = began.elapsed();
            if said == answer {
                return took;
            }
            assert!(took < bound, "{what}: {said} after {took:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sets a limit of the process, such as `nofile`; the hard one stays.
    pub(crate) fn limit(&self, resource: &str, to: &str) {
        let id = self.id().to_string();
        let limit = format!("--{resource}={to}:");
        let mut set = Command::new("prlimit");
        set.args(["--pid", &id, &limit]);
        if let Some(user) = self.user {
            set.uid(user).gid(user);
        }
        assert!(set.status().expect("prlimit is there: run ./tests/run").success());
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(90);
