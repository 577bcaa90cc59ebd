//! Certificates for one test, and files that hold them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};

/// A certification authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub root_pem: String,
    pub root_der: Vec<u8>,
}

/// A certificate and its key.
#[derive(Clone)]
pub struct Pair {
    pub der: Vec<u8>,
    pub pem: String,
    pub key_pem: String,
    pub key_der: Vec<u8>,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = name("test authority");
        let root = params.self_signed(&key).unwrap();
        let (root_pem, root_der) = (root.pem(), root.der().to_vec());
        Self { issuer: Issuer::new(params, key), root_pem, root_der }
    }

    /// A certificate for a server on loopback.
    pub fn server(&self) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".into(), "localhost".into()]).unwrap();
        Pair::new(&params.signed_by(&key, &self.issuer).unwrap(), &key)
    }

    /// A certificate for a client, whose alternative name is `NAME.example`.
    pub fn client(&self, common_name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![format!("{common_name}.example")]).unwrap();
        params.distinguished_name = name(common_name);
        Pair::new(&params.signed_by(&key, &self.issuer).unwrap(), &key)
    }
}

impl Pair {
    pub fn self_signed(common_name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = name(common_name);
        Self::new(&params.self_signed(&key).unwrap(), &key)
    }

    fn new(certificate: &rcgen::Certificate, key: &KeyPair) -> Self {
        Self {
            der: certificate.der().to_vec(),
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            key_der: key.serialize_der(),
        }
    }
}

fn name(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// Files that hold a client's certificate and key, removed on drop.
pub struct Files(PathBuf);

impl Files {
    pub fn new(pair: &Pair) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("mtls-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let files = Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        fs::create_dir_all(&files.0).unwrap();
        files.write(pair);
        files
    }

    pub fn write(&self, pair: &Pair) {
        self.write_certificate(&pair.pem);
        fs::write(self.key(), &pair.key_pem).unwrap();
    }

    pub fn write_certificate(&self, pem: &str) {
        fs::write(self.0.join("tls.crt"), pem).unwrap();
    }

    pub fn key(&self) -> PathBuf {
        self.0.join("tls.key")
    }

    #[cfg(feature = "mtls")]
    pub fn certificate(&self) -> tower_oauth::ClientCertificate {
        use tower_oauth::{ClientCertificate, SecretSource};

        ClientCertificate::pem(
            SecretSource::file(self.0.join("tls.crt")),
            SecretSource::file(self.key()),
        )
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}
