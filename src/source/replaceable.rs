//! A source that can be replaced while it is in use. Called by the refresher, as any source.

use std::{
    fmt, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::{
    FetchContext, TokenSource,
    link::{Asked, Link, share, spawn},
};
use crate::{
    error::{Error, ErrorKind},
    token::TokenSet,
};

/// A source in whose place another one can be put while it is in use.
///
/// The other one is [offered](Self::offer), and tried by the next fetch. Once it has given a token
/// it is the source; until then the old one is, and if it gives none, the old one is asked in the
/// same fetch, so that nobody goes without. Each of them is shown only what it gave itself: a
/// refresh token goes to nobody but the server that issued it.
///
/// The new source has half of the time that the fetch has. Its fetch is not dropped then, because the
/// answer may hold a rotated refresh token. It goes on until the fetch's deadline, and a source that
/// gives a token by then takes the place of the old one, too.
///
/// Clones share one source.
///
/// ```
/// use tower_oauth::{Error, Replaceable, TokenHandle, TokenSet, source_fn};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let source = Replaceable::new(source_fn(|_| async { TokenSet::bearer("old") }));
/// let tokens = TokenHandle::spawn(source.clone());
/// assert_eq!(tokens.token().await?.access_token().expose(), "old");
///
/// let offer = source.offer(source_fn(|_| async { TokenSet::bearer("new") }));
/// tokens.refresh().await?;
/// offer.accepted().await?;
/// assert_eq!(tokens.token().await?.access_token().expose(), "new");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Replaceable(Arc<Mutex<Sources>>);

struct Sources {
    current: Link,
    /// The number of the offer that `current` was; 0 for the first source.
    accepted: u64,
    offered: Option<Offered>,
    /// How many were offered: the number of the last.
    offers: u64,
}

struct Offered {
    link: Link,
    /// Whether it goes on with the grant of the source that is current when it is tried, and so
    /// with its refresh token.
    same_grant: Box<dyn FnOnce() -> bool + Send>,
    number: u64,
    outcome: oneshot::Sender<Result<(), Error>>,
}

/// A source that was offered. When it is dropped before the source was tried, the source is
/// withdrawn.
#[must_use = "a source that nobody waits for is withdrawn"]
pub struct Offer {
    sources: Replaceable,
    number: u64,
    outcome: oneshot::Receiver<Result<(), Error>>,
}

impl Replaceable {
    /// Starts with a source.
    pub fn new(source: impl TokenSource) -> Self {
        let current = Link::new(source);
        Self(Arc::new(Mutex::new(Sources { current, accepted: 0, offered: None, offers: 0 })))
    }

    /// Offers a source in place of the current one. It is tried by the next fetch, which
    /// [`refresh()`](crate::TokenHandle::refresh) asks for, and given half of the time that the
    /// fetch has. Another one that was offered before and not tried yet is withdrawn.
    pub fn offer(&self, source: impl TokenSource) -> Offer {
        self.offer_if(source, || false)
    }

    /// As [`offer`](Self::offer), for a source that goes on with the grant of the current one: at the
    /// same server, for the same client. It is shown what the current one gave, the refresh token
    /// among it.
    pub fn offer_same_grant(&self, source: impl TokenSource) -> Offer {
        self.offer_if(source, || true)
    }

    /// As one or the other, decided when the source is tried.
    pub(crate) fn offer_if(
        &self,
        source: impl TokenSource,
        same_grant: impl FnOnce() -> bool + Send + 'static,
    ) -> Offer {
        let (link, same_grant) = (Link::new(source), Box::new(same_grant));
        let (sender, outcome) = oneshot::channel();
        let mut sources = self.sources();
        sources.offers += 1;
        let number = sources.offers;
        let replaced =
            sources.offered.replace(Offered { link, same_grant, number, outcome: sender });
        drop(sources);
        if let Some(replaced) = replaced {
            let message = "another source was offered after this one";
            tell(replaced.outcome, Err(Error::new(ErrorKind::Configuration, message)));
        }
        Offer { sources: self.clone(), number, outcome }
    }

    /// Tries the source that was offered.
    async fn try_offered(&self, offered: Offered, cx: FetchContext) -> Option<TokenSet> {
        let Offered { mut link, same_grant, number, outcome: sender } = offered;
        if same_grant() {
            link.inherit(&self.sources().current);
        }
        // The current source needs time too.
        match link.ask(share(cx.deadline, 2), cx).await {
            Asked::Ended(outcome) => {
                let token = outcome.as_ref().ok().cloned();
                self.settle(link, number, sender, outcome);
                token
            }
            Asked::UnderWay(flight) => {
                let this = self.clone();
                spawn(async move {
                    let outcome = flight.ended().await;
                    this.settle(link, number, sender, outcome);
                });
                None
            }
        }
    }

    /// Puts a source that gave a token in the place of the current one, and tells the offerer.
    fn settle(
        &self,
        link: Link,
        number: u64,
        sender: oneshot::Sender<Result<(), Error>>,
        outcome: Result<TokenSet, Error>,
    ) {
        let accepted = outcome.map(|_| {
            let mut sources = self.sources();
            // A source that took its time may come after one that was offered later.
            if number > sources.accepted {
                // Offered -> current: it works.
                sources.accepted = number;
                let replaced = mem::replace(&mut sources.current, link);
                // A source may do anything when it is dropped, so not while the lock is held.
                drop(sources);
                drop(replaced);
            }
        });
        tell(sender, accepted);
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(offerer: oneshot::Sender<Result<(), Error>>, outcome: Result<(), Error>) {
    // Whoever offered it may have lost interest.
    let _ = offerer.send(outcome);
}

impl Offer {
    /// Waits until the source was tried. It does not have it tried: that is up to the handle.
    ///
    /// # Errors
    ///
    /// Whatever kept the source from giving a token. The one before it is still in use.
    ///
    /// # Cancellation
    ///
    /// The source is withdrawn, unless it is being tried or was.
    pub async fn accepted(mut self) -> Result<(), Error> {
        // A fetch that panics drops the sender.
        (&mut self.outcome).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Panic, "the offered source was not tried to the end"))
        })
    }

    /// What became of it, if it was tried or is being tried; otherwise it is withdrawn.
    #[cfg(feature = "config")]
    pub(crate) async fn settled(self) -> Option<Result<(), Error>> {
        match self.withdraw() {
            Some(_) => None,
            None => Some(self.accepted().await),
        }
    }

    fn withdraw(&self) -> Option<Offered> {
        let mut sources = self.sources.sources();
        sources.offered.take_if(|offered| offered.number == self.number)
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        drop(self.withdraw());
    }
}

impl TokenSource for Replaceable {
    async fn fetch(&self, cx: FetchContext) -> Result<TokenSet, Error> {
        let offered = self.sources().offered.take();
        if let Some(offered) = offered
            && let Some(token) = self.try_offered(offered, cx.clone()).await
        {
            return Ok(token);
        }
        let current = self.sources().current.clone();
        current.fetch(cx).await
    }

    async fn revoke(&self, cx: FetchContext) -> Result<(), Error> {
        let current = self.sources().current.clone();
        current.revoke(cx).await
    }

    async fn renewed(&self, cx: FetchContext) -> TokenSet {
        // Another one takes its place in a fetch only, and after that, this is called anew.
        let current = self.sources().current.clone();
        current.renewed(cx).await
    }
}

impl fmt::Debug for Replaceable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offered = self.sources().offered.is_some();
        f.debug_struct("Replaceable").field("offered", &offered).finish_non_exhaustive()
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer").field("number", &self.number).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use tokio::time::Instant;

    use super::{super::source_fn, *};
    use crate::secret::Secret;

    /// Gives its name as token and as refresh token, and checks that it sees nobody else's.
    fn named(name: &'static str) -> impl TokenSource {
        source_fn(move |cx: FetchContext| {
            let previous = cx.previous.as_ref().and_then(|token| token.refresh_token());
            let foreign = previous.is_some_and(|token| token.expose() != name);
            async move {
                assert!(!foreign, "{name} sees another source's refresh token");
                Ok(TokenSet::bearer(name)?.with_refresh_token(name))
            }
        })
    }

    fn refusing() -> impl TokenSource {
        source_fn(|_| async { Err(Error::new(ErrorKind::InvalidClient, "no")) })
    }

    async fn fetch(source: &Replaceable) -> String {
        let mut cx = FetchContext::first();
        // As the refresher has it: the last token, whoever gave it.
        let last = TokenSet::bearer("last").unwrap().with_refresh_token("somebody's");
        cx.previous = Some(Arc::new(last));
        let token = source.fetch(cx).await.unwrap();
        token.access_token().expose().to_owned()
    }

    #[tokio::test]
    async fn a_source_that_gives_a_token_takes_the_place_of_the_old_one() {
        let source = Replaceable::new(named("old"));
        assert_eq!(fetch(&source).await, "old");
        let offer = source.offer(named("new"));
        assert_eq!(fetch(&source).await, "new");
        offer.accepted().await.unwrap();
        assert_eq!(fetch(&source).await, "new");
    }

    #[tokio::test]
    async fn a_source_that_gives_none_is_dropped_and_the_old_one_asked_in_the_same_fetch() {
        let source = Replaceable::new(named("old"));
        let offer = source.offer(refusing());
        assert_eq!(fetch(&source).await, "old");
        assert_eq!(offer.accepted().await.unwrap_err().kind(), ErrorKind::InvalidClient);
        assert_eq!(fetch(&source).await, "old");
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_hangs_leaves_the_old_one_half_of_the_time() {
        let source = Replaceable::new(named("old"));
        let offer = source.offer(source_fn(|_| std::future::pending()));
        let started = Instant::now();
        assert_eq!(fetch(&source).await, "old");
        assert_eq!(started.elapsed().as_secs(), 15);
        assert_eq!(offer.accepted().await.unwrap_err().kind(), ErrorKind::Timeout);
    }

    #[tokio::test]
    async fn only_a_source_with_the_same_grant_sees_the_last_refresh_token() {
        let source = Replaceable::new(named("session"));
        assert_eq!(fetch(&source).await, "session");
        let heir = source_fn(|cx: FetchContext| async move {
            let previous = cx.previous.ok_or_else(|| Error::other("nothing was inherited"))?;
            assert_eq!(previous.refresh_token().map(Secret::expose), Some("session"));
            TokenSet::bearer("heir")
        });
        let offer = source.offer_same_grant(heir);
        assert_eq!(fetch(&source).await, "heir");
        offer.accepted().await.unwrap();
    }

    #[tokio::test]
    async fn an_offer_that_is_dropped_or_followed_by_another_is_withdrawn() {
        let source = Replaceable::new(named("old"));
        drop(source.offer(named("dropped")));
        assert_eq!(fetch(&source).await, "old");
        let first = source.offer(named("first"));
        let second = source.offer(named("second"));
        assert!(first.accepted().await.is_err());
        assert_eq!(fetch(&source).await, "second");
        second.accepted().await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_panics_is_not_tried_again() {
        let source = Replaceable::new(named("old"));
        let tries = Arc::new(AtomicU32::new(0));
        let counted = tries.clone();
        let offer = source.offer(source_fn(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            async { panic!("a bug") }
        }));
        assert_eq!(fetch(&source).await, "old");
        assert_eq!(offer.accepted().await.unwrap_err().kind(), ErrorKind::Panic);
        assert_eq!(fetch(&source).await, "old");
        assert_eq!(tries.load(Ordering::Relaxed), 1);
    }

    /// Its fetch was dropped, and its first refresh token spent.
    #[tokio::test(start_paused = true)]
    async fn f64_a_source_that_gives_its_token_late_takes_the_place_of_the_old_one_too() {
        let source = Replaceable::new(named("old"));
        let fetches = Arc::new(AtomicU32::new(0));
        let counted = fetches.clone();
        let offer = source.offer(source_fn(move |cx: FetchContext| {
            let number = counted.fetch_add(1, Ordering::Relaxed);
            assert_eq!(cx.previous.is_some(), number == 1, "it goes on from its own token");
            async move {
                tokio::time::sleep(Duration::from_secs(20)).await;
                Ok(TokenSet::bearer("new")?.with_refresh_token("new"))
            }
        }));
        assert_eq!(fetch(&source).await, "old");
        offer.accepted().await.unwrap();
        assert_eq!(fetch(&source).await, "new");
        assert_eq!(fetches.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn f64_a_source_that_is_late_does_not_displace_one_that_was_offered_after_it() {
        let source = Replaceable::new(named("old"));
        let late = source.offer(source_fn(|_| async {
            tokio::time::sleep(Duration::from_secs(20)).await;
            TokenSet::bearer("late")
        }));
        assert_eq!(fetch(&source).await, "old");
        let newer = source.offer(named("newer"));
        assert_eq!(fetch(&source).await, "newer");
        newer.accepted().await.unwrap();
        late.accepted().await.unwrap();
        assert_eq!(fetch(&source).await, "newer");
    }

    /// Both would have sent the same refresh token, and a server that sees it twice ends the grant.
    #[tokio::test(start_paused = true)]
    async fn f64_one_refresh_token_is_not_sent_by_two_sources_at_a_time() {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let rotating = |name: &'static str, takes: u64| {
            let sent = sent.clone();
            source_fn(move |cx: FetchContext| {
                let previous = cx.previous.as_ref().and_then(|token| token.refresh_token());
                let previous = previous.map_or("none", |token| token.expose()).to_owned();
                let mut sent = sent.lock().unwrap();
                assert!(!sent.contains(&previous), "{previous} is sent again");
                sent.push(previous);
                let next = format!("{name}{}", sent.len());
                async move {
                    tokio::time::sleep(Duration::from_secs(takes)).await;
                    Ok(TokenSet::bearer(&*next)?.with_refresh_token(next))
                }
            })
        };
        let source = Replaceable::new(rotating("old", 0));
        assert_eq!(fetch(&source).await, "old1");
        let offer = source.offer_same_grant(rotating("heir", 20));
        assert_eq!(fetch(&source).await, "heir2");
        offer.accepted().await.unwrap();
        assert_eq!(fetch(&source).await, "heir3");
        assert_eq!(*sent.lock().unwrap(), ["none", "old1", "heir2"]);
    }
}
