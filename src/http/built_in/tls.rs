//! The TLS settings that all clients share, with one set of root certificates.

use std::{
    error, fmt,
    fs::File,
    io,
    path::Path,
    sync::{Arc, OnceLock},
};

use rustls::{ALL_VERSIONS, ClientConfig, crypto::CryptoProvider};
use rustls_platform_verifier::Verifier;

/// Why there are no root certificates.
#[derive(Debug)]
pub(super) enum NoRoots {
    /// For now: the process can open no file.
    OutOfDescriptors(io::Error),
    /// There are none, or none that can be used.
    Unusable(rustls::Error),
}

/// The settings of the process. Clones share what is large.
pub(super) fn config() -> Result<ClientConfig, NoRoots> {
    static CONFIG: OnceLock<ClientConfig> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    match load() {
        // If descriptors are scarce, some files may have been left out: it is not kept.
        Ok(config) if files_open().is_err() => Ok(config),
        Ok(config) => Ok(CONFIG.get_or_init(|| config).clone()),
        Err(error) => match files_open() {
            Err(exhausted) => Err(NoRoots::OutOfDescriptors(exhausted)),
            Ok(()) => Err(NoRoots::Unusable(error)),
        },
    }
}

/// As reqwest has it by default: the system's certificates, and the provider of the process if one
/// is installed.
fn load() -> Result<ClientConfig, rustls::Error> {
    let installed = CryptoProvider::get_default().cloned();
    let provider =
        installed.unwrap_or_else(|| Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let verifier = Verifier::new(provider.clone())?;
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(ALL_VERSIONS)?
        .dangerous() // rustls' word for any verifier that is not its own
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// Whether as many files can be opened as it takes to read certificates, and a few more.
fn files_open() -> io::Result<()> {
    let null = Path::new("/dev/null");
    if cfg!(not(unix)) {
        return Ok(());
    }
    let opened: io::Result<Vec<_>> = (0..4).map(|_| File::open(null)).collect();
    match opened {
        // Somewhere without devices: that says nothing.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome.map(drop),
    }
}

impl fmt::Display for NoRoots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfDescriptors(error) => write!(
                f,
                "the root certificates cannot be read, as the process has no file descriptors \
                 left ({error}); raise its limit (ulimit -n)"
            ),
            Self::Unusable(error) => {
                write!(f, "the system has no usable root certificates: {error}")
            }
        }
    }
}

impl error::Error for NoRoots {}
