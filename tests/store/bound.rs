//! Tokens that are bound to a key.

use tower_oauth::{
    ClientAuth, DpopAlgorithm, DpopKey, Error, FetchContext, RefreshToken, TokenSet, TokenSource,
    TokenType,
    source::{Identified, Identity},
    source_fn,
    store::Persisted,
};

use crate::harness::{Events, LIFE, TestStore, fetch, strict, transport};

fn key() -> DpopKey {
    DpopKey::generate(DpopAlgorithm::Es256).unwrap()
}

/// A process whose tokens are bound to this key.
fn process(key: &DpopKey, token: &'static str, store: &TestStore) -> (impl TokenSource, Events) {
    let (bound, events) = (key.clone(), Events::default());
    let source = source_fn(move |_: FetchContext| {
        let key = bound.clone();
        async move { Ok::<_, Error>(TokenSet::bearer(token)?.with_lifetime(LIFE).with_dpop_key(key)) }
    });
    let identity = Identity::new("https://as.example/token", "c").dpop_key(key.clone());
    let persisted = Persisted::identified(identity, source, store.clone());
    (persisted.observer(events.observer()), events)
}

#[tokio::test(start_paused = true)]
async fn a_bound_token_is_adopted_with_its_key() {
    let (key, store) = (key(), TestStore::new());
    fetch(&process(&key, "one", &store).0, &store).await.unwrap();
    let adopted = fetch(&process(&key, "two", &store).0, &store).await.unwrap();
    assert_eq!(adopted.access_token().expose(), "one");
    assert_eq!(adopted.token_type(), TokenType::Dpop);
    assert_eq!(adopted.dpop_key().unwrap().thumbprint(), key.thumbprint());
}

#[tokio::test(start_paused = true)]
async fn rfr_12_rfr_13_a_token_of_another_key_is_not_used() {
    let (mine, theirs) = (key(), key());
    for ignores_keys in [false, true] {
        let store = TestStore::new();
        store.trouble(|trouble| trouble.ignores_keys = ignores_keys);
        fetch(&process(&theirs, "one", &store).0, &store).await.unwrap();
        let (source, events) = process(&mine, "two", &store);
        let token = fetch(&source, &store).await.unwrap();
        assert_eq!(token.access_token().expose(), "two");
        let ignored = events.all().contains("key thumbprint");
        assert_eq!(ignored, ignores_keys, "{}", events.all());
    }
}

#[test]
fn rfr_12_a_grants_key_is_a_part_of_its_identity() {
    let (server, key) = (strict(), key());
    let grant = RefreshToken::builder(server.token_endpoint(), ClientAuth::none("cli"), "r")
        .dpop(key.clone())
        .transport(transport(&server))
        .build()
        .unwrap();
    assert!(format!("{:?}", grant.identity()).contains(key.thumbprint()));
}
