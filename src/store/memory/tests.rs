use std::{pin::pin, sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{super::stamp::Stamp, *};
use crate::source::Identity;

/// Whoever knows the newest record would look at it again and again otherwise.
#[tokio::test(start_paused = true)]
async fn f46_a_record_that_is_known_is_not_said_to_have_changed() {
    let stamp = Stamp::new(&Identity::new("https://as.example/token", "c"), "");
    let (key, store) = (stamp.key(), MemoryStore::new());
    let mut record = Record {
        stamp: Arc::new(stamp),
        origin: None,
        generation: 1,
        state: RecordState::Clean,
        tokens: None,
    };
    let (mut lease, _) = store.acquire(&key, Instant::now()).await.unwrap();
    store.save(&mut lease, 0, &record).await.unwrap();
    store.changed(&key, 0).await;
    let mut changed = pin!(store.changed(&key, 1));
    timeout(Duration::from_secs(60), &mut changed).await.unwrap_err();
    record.generation = 2;
    store.save(&mut lease, 1, &record).await.unwrap();
    changed.await;
}
