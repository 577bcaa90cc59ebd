use keyring_core::mock;

use super::*;

#[test]
fn f37_each_refusal_of_a_keychain_says_what_to_do() {
    let keychain = Keychain::new(None);
    let refusals = [
        (KeyringError::NoStorageAccess("it is locked".into()), "Unlock it", true),
        (KeyringError::PlatformFailure("no bus".into()), "is there a session", true),
        (KeyringError::BadDataFormat(b"hunter2".into(), "odd".into()), "delete it", false),
        (KeyringError::BadEncoding(b"hunter2".into()), "delete it", false),
        (KeyringError::Ambiguous(Vec::new()), "several such entries; delete all", false),
        (KeyringError::NoEntry, "the entry is gone", false),
        (KeyringError::NotSupportedByStore("x".into()), "cannot do so on this system", false),
        (KeyringError::Invalid("user".into(), "empty".into()), "it refused", false),
    ];
    for (refusal, expected, has_source) in refusals {
        let error = keychain.refusal("read", refusal);
        assert_eq!(error.kind(), ErrorKind::Store);
        let text = error.to_string();
        assert!(text.contains("cannot be read") && text.contains(expected), "{text}");
        assert_eq!(std::error::Error::source(&error).is_some(), has_source, "{text}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

#[test]
fn f37_an_entry_takes_exactly_as_many_bytes_as_it_may_have() {
    let store: Arc<CredentialStore> = mock::Store::new().unwrap();
    let keychain = Keychain { limit: 7, ..Keychain::new(Some(store)) };
    keychain.write("name", &"1234567".into()).unwrap();
    let error = keychain.write("name", &"12345678".into()).unwrap_err();
    assert!(error.to_string().contains("8 bytes, and an entry at most 7"), "{error}");
    let kept = keychain.read("name").unwrap().unwrap();
    assert_eq!(kept.expose(), "1234567");
}
