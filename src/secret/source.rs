use std::{env, fmt, future::Future, io, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use zeroize::Zeroizing;

use super::Secret;
use crate::{
    error::{BoxError, Error, ErrorKind},
    task::blocking,
};

/// Where a secret is read from, again for every exchange.
///
/// A string or a [`Secret`] converts into a literal.
///
/// ```
/// use tower_oauth::{ClientAuth, SecretSource};
///
/// let auth = ClientAuth::basic("orders", SecretSource::file("/run/secrets/orders"));
/// # let _ = auth;
/// ```
#[derive(Clone)]
pub struct SecretSource(Kind);

#[derive(Clone)]
enum Kind {
    Literal(Secret),
    Env(Arc<str>),
    File(Arc<PathBuf>),
    Provider(Arc<Provider>),
}

type Provider =
    dyn Fn() -> Pin<Box<dyn Future<Output = Result<Secret, BoxError>> + Send>> + Send + Sync;

impl SecretSource {
    /// A value known now.
    pub fn literal(value: impl Into<Secret>) -> Self {
        Self(Kind::Literal(value.into()))
    }

    /// An environment variable.
    pub fn env(name: impl Into<String>) -> Self {
        Self(Kind::Env(name.into().into()))
    }

    /// A file of at most 64 KiB, without the white space at its end. It may be replaced at any
    /// time, also through a link, as Kubernetes does.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Kind::File(Arc::new(path.into())))
    }

    /// A function, such as a call to a key management service.
    ///
    /// ```
    /// use tower_oauth::{Secret, SecretSource};
    ///
    /// let source = SecretSource::provider(|| async { Ok(Secret::from("from the vault")) });
    /// # let _ = source;
    /// ```
    pub fn provider<F, Fut>(provide: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Secret, BoxError>> + Send + 'static,
    {
        Self(Kind::Provider(Arc::new(move || Box::pin(provide()))))
    }

    /// Reads the secret as it is now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Credential`] when it is absent, empty, unreadable or too large, and when no thread
    /// of the runtime was free to read a file within 5 s.
    pub async fn read(&self) -> Result<Secret, Error> {
        let secret = match &self.0 {
            Kind::Literal(secret) => secret.clone(),
            Kind::Env(name) => env::var(&**name).map(Secret::from).map_err(|error| {
                // `VarError::NotUnicode` holds the value: it does not become our source.
                let problem = match error {
                    env::VarError::NotPresent => "is not set",
                    env::VarError::NotUnicode(_) => "is not UTF-8",
                };
                failure(format!("environment variable {name:?} {problem}"))
            })?,
            Kind::File(path) => read_file(path.clone()).await?,
            Kind::Provider(provide) => provide().await.map_err(|source| {
                failure("the secret's provider failed".to_owned()).with_source(source)
            })?,
        };
        if secret.expose().is_empty() {
            return Err(failure(format!("the secret from {self:?} is empty")));
        }
        Ok(secret)
    }

    /// Whether another reading may give another value.
    pub(crate) fn can_change(&self) -> bool {
        !matches!(self.0, Kind::Literal(_))
    }
}

async fn read_file(path: Arc<PathBuf>) -> Result<Secret, Error> {
    let shown = path.clone();
    let failed = move |problem: &str| failure(format!("secret file {shown:?} {problem}"));
    let read = blocking(Some(PATIENCE), move || {
        use std::io::Read;
        let mut bytes = Zeroizing::new(Vec::with_capacity(4096));
        std::fs::File::open(&*path)?.take(FILE_CAP + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    });
    let bytes = read.await.map_err(|source| {
        let problem = match source.kind() {
            io::ErrorKind::WouldBlock => "cannot be read: no thread is free for it",
            _ => "cannot be read",
        };
        failed(problem).with_source(source)
    })?;
    if bytes.len() as u64 > FILE_CAP {
        return Err(failed("is larger than 64 KiB"));
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| failed("is not UTF-8"))?;
    Ok(text.trim_end().into())
}

fn failure(message: String) -> Error {
    Error::new(ErrorKind::Credential, message)
}

impl<T: Into<Secret>> From<T> for SecretSource {
    fn from(value: T) -> Self {
        Self::literal(value)
    }
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Literal(_) => f.write_str("literal"),
            Kind::Env(name) => write!(f, "env {name:?}"),
            Kind::File(path) => write!(f, "file {path:?}"),
            Kind::Provider(_) => f.write_str("provider"),
        }
    }
}

const FILE_CAP: u64 = 64 * 1024;
/// How long a reading waits for one of tokio's blocking threads.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_read_again_each_time_and_trimmed() {
        let path = env::temp_dir().join(format!("tower-oauth-secret-{}", std::process::id()));
        let source = SecretSource::file(&path);
        let missing = source.read().await.unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::Credential);
        for value in ["first", "second"] {
            std::fs::write(&path, format!("{value}\n")).unwrap();
            assert_eq!(source.read().await.unwrap().expose(), value);
        }
        std::fs::write(&path, "x".repeat(70_000)).unwrap();
        assert!(source.read().await.unwrap_err().to_string().contains("larger than 64 KiB"));
        std::fs::write(&path, "\n").unwrap();
        assert!(source.read().await.unwrap_err().to_string().contains("empty"));
        std::fs::remove_file(&path).unwrap();
    }

    /// The caller's time was over, and the error said that the server did not answer.
    #[test]
    fn f102_a_secret_file_that_no_thread_reads_is_told_of() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().max_blocking_threads(1).start_paused(true);
        let runtime = runtime.build().unwrap();
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        drop(runtime.spawn_blocking(move || blocked.recv()));
        runtime.block_on(async {
            // Time that is paused goes on only while no thread is busy.
            let tick = async {
                loop {
                    tokio::task::yield_now().await;
                    tokio::time::advance(Duration::from_millis(100)).await;
                }
            };
            let source = SecretSource::file("/dev/null");
            let error = tokio::select! {
                read = source.read() => read.unwrap_err(),
                () = tick => unreachable!(),
            };
            assert!(error.to_string().contains("no thread is free"), "{error}");
            let source = std::error::Error::source(&error).unwrap();
            assert!(source.to_string().contains("ulimit -u"), "{source}");
            drop(release);
        });
    }

    #[tokio::test]
    async fn a_missing_variable_is_named() {
        let error = SecretSource::env("TOWER_OAUTH_NO_SUCH_VARIABLE").read().await.unwrap_err();
        assert!(error.to_string().contains("TOWER_OAUTH_NO_SUCH_VARIABLE"));
    }

    #[test]
    fn debug_shows_where_a_secret_comes_from_and_never_the_secret() {
        let shown = format!("{:?}", SecretSource::literal("hunter2"));
        assert_eq!(shown, "literal");
    }
}
