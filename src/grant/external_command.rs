use std::{
    env,
    ffi::{OsStr, OsString},
    fmt,
    future::{Future, poll_fn},
    path::PathBuf,
    pin::pin,
    process::{ExitStatus, Stdio},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use tokio::{
    io::AsyncReadExt,
    process::Command,
    time::{Instant, timeout, timeout_at},
};
use zeroize::Zeroizing;

use super::builder::MAX_LIFETIME;
use crate::{
    endpoint::{Accepted, Rules, written_token},
    error::{ConfigError, Error, ErrorKind},
    secret::SecretSource,
    source::{FetchContext, TokenSource},
    token::{TokenSet, jwt_expiry},
};

/// A token that a program writes to its standard output, such as a cloud's command line tool.
///
/// The output is a token response in JSON ([RFC 6749 §5.1]; without `token_type` it is a bearer
/// token), or a token alone; of at most 64 KiB.
///
/// The program is run each time a token is due: without a shell, with nothing on its standard
/// input, and with no environment but what it is given. What it writes to its standard error is not
/// kept, as it may hold anything. It is killed when its time is over or the fetch is dropped; what
/// it has started itself is not, and is not waited for, even if it holds the output open.
///
/// ```
/// use tower_oauth::ExternalCommand;
///
/// # fn main() -> Result<(), tower_oauth::ConfigError> {
/// let source = ExternalCommand::danger_builder("/usr/bin/gcloud")
///     .args(["auth", "print-access-token"])
///     .inherit_env("HOME")
///     .inherit_env("PATH")
///     .build()?;
/// # let _ = source;
/// # Ok(())
/// # }
/// ```
///
/// [RFC 6749 §5.1]: https://www.rfc-editor.org/rfc/rfc6749#section-5.1
#[derive(Clone)]
pub struct ExternalCommand(Arc<ExternalCommandBuilder>);

/// Configures an [`ExternalCommand`].
pub struct ExternalCommandBuilder {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, SecretSource)>,
    inherited: Vec<OsString>,
    inherits_all: bool,
    directory: Option<PathBuf>,
    timeout: Duration,
    lifetime: Duration,
}

/// How a program ended that did not succeed: the [source](std::error::Error::source) of the
/// [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommandFailure(ExitStatus);

impl ExternalCommand {
    /// Starts with the program's absolute path.
    ///
    /// Whoever can replace the program, or choose it, can run what they like in this process' name:
    /// the path must not come from a configuration that others write.
    pub fn danger_builder(program: impl Into<PathBuf>) -> ExternalCommandBuilder {
        ExternalCommandBuilder {
            program: program.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            inherited: Vec::new(),
            inherits_all: false,
            directory: None,
            timeout: Duration::from_secs(15),
            lifetime: Duration::from_secs(300),
        }
    }
}

impl ExternalCommandBuilder {
    /// Adds an argument. It is passed on as it is; no shell sees it. Every user of the machine can
    /// see it: a secret belongs into a variable.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<I>(mut self, arguments: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable. Its value is read again for every run.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<SecretSource>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Passes on a variable of this process, if it is set. Default: none.
    #[must_use]
    pub fn inherit_env(mut self, name: impl Into<OsString>) -> Self {
        self.inherited.push(name.into());
        self
    }

    /// Passes on all variables of this process, its secrets among them. Default: none.
    #[must_use]
    pub fn inherit_all_env(mut self) -> Self {
        self.inherits_all = true;
        self
    }

    /// Sets the directory that the program runs in. Default: this process' own.
    #[must_use]
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    /// Sets how long the program may run. Default: 15 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how long a token lives that does not tell, neither in the response nor, if it is a JWT,
    /// itself. Default: 5 min.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Checks the configuration. The program is not run yet.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Setting`] when the program's path is not absolute, a variable's name cannot be
    /// one, or the timeout is zero.
    pub fn build(self) -> Result<ExternalCommand, ConfigError> {
        let bad = |name, value, reason| Err(ConfigError::Setting { name, value, reason });
        if !self.program.is_absolute() {
            let reason = "its path must be absolute: no search for it is made";
            return bad("program", shown(self.program.as_os_str()), reason);
        }
        let mut names = self.environment.iter().map(|(name, _)| name).chain(&self.inherited);
        if let Some(name) = names.find(|name| !is_variable(name)) {
            return bad("env", shown(name), "it is not the name of a variable");
        }
        if self.timeout.is_zero() {
            return bad("timeout", "0".to_owned(), "nothing could ever succeed");
        }
        Ok(ExternalCommand(Arc::new(self)))
    }

    async fn command(&self) -> Result<Command, Error> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments);
        if !self.inherits_all {
            command.env_clear();
            let set = self.inherited.iter().filter_map(|name| Some((name, env::var_os(name)?)));
            command.envs(set);
        }
        for (name, value) in &self.environment {
            command.env(name, value.read().await?.expose());
        }
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.kill_on_drop(true);
        Ok(command)
    }

    fn failure(&self, kind: ErrorKind, problem: &str) -> Error {
        Error::new(kind, format!("program {} {problem}", shown(self.program.as_os_str())))
    }

    fn too_much(&self) -> Error {
        self.failure(ErrorKind::MalformedResponse, "writes more than 64 KiB")
    }

    /// Runs the program to its end. When this is dropped, it is killed.
    async fn output(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut command = self.command().await?;
        let unreadable = "cannot be waited for";
        let mut child = command.spawn().map_err(|source| {
            self.failure(ErrorKind::Source, "cannot be started").with_source(source)
        })?;
        let stdout =
            child.stdout.take().ok_or_else(|| self.failure(ErrorKind::Source, unreadable))?;
        // With room for all of it: a vector that grows leaves copies behind.
        let mut output = Zeroizing::new(Vec::with_capacity(OUTPUT_CAP + 64));
        let mut stdout = stdout.take(OUTPUT_CAP as u64 + 1);
        let unreadable = |source| self.failure(ErrorKind::Source, unreadable).with_source(source);
        let ended = {
            let mut reading = pin!(stdout.read_to_end(&mut output));
            let mut ending = pin!(child.wait());
            poll_fn(|cx| match reading.as_mut().poll(cx) {
                Poll::Ready(read) => Poll::Ready(read.map(|_| None)),
                Poll::Pending => ending.as_mut().poll(cx).map_ok(Some),
            })
            .await
            .map_err(unreadable)?
        };
        let status = match ended {
            Some(status) => status,
            None if output.len() > OUTPUT_CAP => return Err(self.too_much()),
            None => child.wait().await.map_err(unreadable)?,
        };
        // What it has written is in the pipe by now. What it has started may hold the pipe open for
        // as long as it likes.
        let rest = stdout.read_to_end(&mut output);
        if let Ok(reading) = timeout(REST, rest).await {
            reading.map_err(unreadable)?;
        }
        if output.len() > OUTPUT_CAP {
            return Err(self.too_much());
        }
        if !status.success() {
            let advice = "failed; run it by hand to see why, its error output is not kept";
            return Err(self
                .failure(ErrorKind::Source, advice)
                .with_source(CommandFailure(status)));
        }
        Ok(output)
    }
}

impl TokenSource for ExternalCommand {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        let this = &*self.0;
        let (sent_at, now) = (Instant::now(), cx.clock.now().wall);
        let deadline =
            sent_at.checked_add(this.timeout).map_or(cx.deadline, |own| own.min(cx.deadline));
        let output = timeout_at(deadline, this.output()).await.unwrap_or_else(|_| {
            Err(this.failure(ErrorKind::Timeout, "did not end in time and was killed"))
        })?;
        let token = written_token(&output, &RULES, now).map_err(|error| {
            this.failure(error.kind(), "does not write a usable token").with_source(error)
        })?;
        let expiry = jwt_expiry(token.access_token().expose());
        let own = expiry.map(|expiry| expiry.duration_since(now).unwrap_or_default());
        let lifetime = token.lifetime().or(own).unwrap_or(this.lifetime);
        Ok(token.with_time_left(lifetime).with_sent_at(sent_at))
    }
}

#[expect(clippy::unnecessary_debug_formatting, reason = "it is escaped: a name may be any bytes")]
fn shown(name: &OsStr) -> String {
    format!("{name:?}")
}

/// What the system takes for a variable's name; it panics or fails on others.
fn is_variable(name: &OsStr) -> bool {
    let bytes = name.as_encoded_bytes();
    !bytes.is_empty() && !bytes.iter().any(|b| matches!(b, b'=' | 0))
}

impl CommandFailure {
    /// The program's exit status.
    pub fn status(&self) -> ExitStatus {
        self.0
    }
}

impl fmt::Display for CommandFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for CommandFailure {}

impl fmt::Debug for ExternalCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExternalCommand").field(&self.0).finish()
    }
}

impl fmt::Debug for ExternalCommandBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the arguments: somebody may have put a secret there after all.
        f.debug_struct("ExternalCommandBuilder")
            .field("program", &self.program)
            .field("environment", &self.environment)
            .field("inherited", &self.inherited)
            .field("inherits_all", &self.inherits_all)
            .finish_non_exhaustive()
    }
}

const OUTPUT_CAP: usize = 64 * 1024;
/// How long the rest of the output is read once the program has ended.
const REST: Duration = Duration::from_millis(200);
const RULES: Rules = Rules {
    strict: false,
    assume_bearer: true,
    max_lifetime: MAX_LIFETIME,
    token_at: None,
    bearer_types: Vec::new(),
    accepted: Accepted::Bearer,
};
