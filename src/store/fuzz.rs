//! What holds for whatever is found in a store.
#![expect(clippy::missing_panics_doc, reason = "to panic is what they are for")]

use super::Record;
#[cfg(any(feature = "store-file", feature = "store-redis"))]
use super::seal::Envelope;

/// A record: sealed, and as JSON text.
pub fn stored_record(data: &[u8]) {
    #[cfg(any(feature = "store-file", feature = "store-redis"))]
    let _ = Envelope::parse(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Record::from_json(text) {
        Ok(record) => {
            let written = record.to_json();
            let read = Record::from_json(written.expose()).expect("what was written is read");
            assert_eq!(read.to_json(), written);
            assert_eq!((read.generation(), read.state()), (record.generation(), record.state()));
        }
        // Nothing of the text is in it: all of it is ours.
        Err(error) => assert!(error.to_string().len() <= 160, "{error}"),
    }
}
