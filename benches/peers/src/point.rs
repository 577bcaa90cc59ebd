use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::endpoint::Endpoint;

/// Obtains what a request needs of its token, as a caller does.
pub type Authorize =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>> + Send + Sync>;

pub fn authorize<F>(function: impl Fn() -> F + Send + Sync + 'static) -> Authorize
where
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    Arc::new(move || Box::pin(function()))
}

#[derive(Clone, Copy)]
pub enum Scenario {
    /// The token is to be renewed, and the endpoint takes 200 ms.
    Due,
    /// The same, and the endpoint answers 503.
    Outage,
}

/// 64 callers, each with a request every 20 ms for three seconds, from when the token is due.
pub async fn run(
    name: &str,
    scenario: Scenario,
    endpoint: &Endpoint,
    peer: Authorize,
    quick: bool,
) -> String {
    peer().await.expect("the first token comes");
    endpoint.take_count();
    endpoint.become_slow(matches!(scenario, Scenario::Outage));
    let time = Duration::from_millis(if quick { 300 } else { 3000 });
    let end = Instant::now() + time;
    // A caller gives up after this: an error.
    let patience = time * 3;
    let callers: Vec<_> = (0..64)
        .map(|_| {
            let peer = peer.clone();
            tokio::spawn(async move {
                let (mut errors, mut requests, mut longest) = (0, 0, Duration::ZERO);
                while Instant::now() < end {
                    let start = Instant::now();
                    let answer = tokio::time::timeout(patience, peer()).await;
                    errors += usize::from(!matches!(answer, Ok(Ok(()))));
                    requests += 1;
                    longest = longest.max(start.elapsed());
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                (requests, errors, longest)
            })
        })
        .collect();
    let (mut requests, mut errors, mut longest) = (0, 0, Duration::ZERO);
    for caller in callers {
        let (n, failed, wait) = caller.await.expect("no caller panics");
        (requests, errors, longest) = (requests + n, errors + failed, longest.max(wait));
    }
    let fetches = endpoint.take_count();
    let longest = longest.as_secs_f64() * 1e3;
    format!("{name:<30} {requests:>9} {fetches:>9} {errors:>7} {longest:>12.1}")
}
