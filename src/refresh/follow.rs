use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::time::sleep;

use super::handle::{Alive, TokenHandle};
use crate::{http::ClientCertificate, task::Contained};

impl TokenHandle {
    /// Fetches a new token whenever a client certificate is replaced, so that none is used for long
    /// that came with the old one ([RFC 8705 §6.3]). Needs a tokio runtime.
    ///
    /// The certificate is read every 30 s. The old token stays in use, with the old certificate,
    /// until there is a new one. It ends when the last handle is dropped.
    ///
    /// [RFC 8705 §6.3]: https://www.rfc-editor.org/rfc/rfc8705#section-6.3
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    #[cfg_attr(docsrs, doc(cfg(feature = "mtls")))]
    #[expect(clippy::disallowed_methods, reason = "it goes on after the call")]
    pub fn follow(&self, certificate: &ClientCertificate) {
        tokio::spawn(follow(Arc::downgrade(self.alive()), certificate.clone()));
    }
}

async fn follow(handle: Weak<Alive>, certificate: ClientCertificate) {
    // What was asked for once is the refresher's: it tries again in its own time.
    let mut asked = String::new();
    loop {
        // A certificate that cannot be read now, or whose provider panics, is read again; whoever
        // fetches a token is told.
        let identity = Contained::new(certificate.read()).await.and_then(Result::ok);
        let Some(handle) = handle.upgrade().map(TokenHandle::of) else { return };
        if let Some(thumbprint) = identity.as_ref().map(|identity| identity.thumbprint())
            && asked != thumbprint
            && has_token_of_another(&handle, thumbprint)
        {
            thumbprint.clone_into(&mut asked);
            handle.request_refresh();
        }
        drop(handle);
        sleep(INTERVAL).await;
    }
}

/// Whether the current token came with another certificate than this one.
fn has_token_of_another(handle: &TokenHandle, thumbprint: &str) -> bool {
    let token = handle.current();
    token.is_some_and(|token| token.certificate_thumbprint().is_some_and(|it| it != thumbprint))
}

const INTERVAL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;
    use crate::{
        error::{Error, ErrorKind},
        secret::{Secret, SecretSource},
        source::source_fn,
        token::TokenSet,
    };

    fn pem() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(Vec::new()).unwrap();
        format!("{}{}", params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    #[tokio::test(start_paused = true)]
    async fn mtl_03_a_replaced_certificate_causes_one_fetch_and_its_failure_no_storm() {
        let text = Arc::new(Mutex::new(pem()));
        let read = text.clone();
        let certificate = ClientCertificate::pem_bundle(SecretSource::provider(move || {
            let text = read.lock().unwrap().clone();
            async move {
                assert!(!text.is_empty(), "scripted panic");
                Ok(Secret::from(text))
            }
        }));
        let fetches = Arc::new(AtomicUsize::new(0));
        let (source, count) = (certificate.clone(), fetches.clone());
        let tokens = TokenHandle::spawn(source_fn(move |_| {
            let (certificate, number) = (source.clone(), count.fetch_add(1, Ordering::Relaxed));
            async move {
                if number > 1 {
                    return Err(Error::new(ErrorKind::InvalidClient, "who is this"));
                }
                let identity = certificate.read().await?;
                let token = TokenSet::bearer("t")?.with_lifetime(Duration::from_secs(36_000));
                Ok(token.with_certificate(identity))
            }
        }));
        tokens.follow(&certificate);
        tokens.ready().await.unwrap();
        let first = certificate.thumbprint().await.unwrap();
        sleep(INTERVAL * 10).await;
        assert_eq!(fetches.load(Ordering::Relaxed), 1, "nothing has changed");

        let renewed = pem();
        // The provider panics while there is none.
        text.lock().unwrap().clear();
        sleep(INTERVAL * 3).await;
        *text.lock().unwrap() = renewed;
        sleep(INTERVAL * 10).await;
        assert_eq!(fetches.load(Ordering::Relaxed), 2);
        let second = tokens.token().await.unwrap().certificate_thumbprint().unwrap().to_owned();
        assert_ne!(first, second);

        // The server does not know the third one yet: that is asked once a minute, and more seldom
        // each time, not every 30 s.
        *text.lock().unwrap() = pem();
        sleep(INTERVAL * 20).await;
        let in_all = fetches.load(Ordering::Relaxed);
        assert!((3..8).contains(&in_all), "{in_all}");
        let token = tokens.current().expect("the old token is good, with the old certificate");
        assert_eq!(token.certificate_thumbprint(), Some(&*second));
    }

    #[expect(clippy::disallowed_methods, reason = "the test waits for its end")]
    #[tokio::test(start_paused = true)]
    async fn it_ends_with_the_last_handle() {
        let certificate = ClientCertificate::pem_bundle(pem());
        let tokens = TokenHandle::spawn(source_fn(|_| async { TokenSet::bearer("t") }));
        let following = tokio::spawn(follow(Arc::downgrade(tokens.alive()), certificate));
        tokens.ready().await.unwrap();
        drop(tokens);
        following.await.unwrap();
    }
}
