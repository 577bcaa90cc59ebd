//! What holds for every input of the readers, for the fuzz targets in `fuzz/` and the tests below.
//!
//! It is there only under `--cfg fuzzing`, which `cargo fuzz` sets, and in tests.

pub use crate::discovery::fuzz::metadata;
pub use crate::endpoint::fuzz::{dates, error_response, scopes, token_response};
#[cfg(feature = "private-key-jwt")]
pub use crate::jose::fuzz::keys;
pub use crate::middleware::fuzz::www_authenticate;
#[cfg(feature = "store")]
pub use crate::store::fuzz::stored_record;

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use proptest::{collection::vec, prelude::*, sample::Index};

    /// The inputs in `fuzz/seeds/`. A published package has none.
    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        if !fuzz.join("Cargo.toml").exists() {
            return vec![Vec::new()];
        }
        let files = fs::read_dir(fuzz.join("seeds").join(target)).unwrap();
        let seeds: Vec<_> = files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect();
        assert!(seeds.len() >= 3, "{target} has too few seeds");
        seeds
    }

    /// A seed with some bytes replaced, put in or taken out, or any bytes at all.
    fn inputs(target: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
        let seeds = seeds(target);
        let byte = prop_oneof![any::<u8>(), proptest::sample::select(&b"{}[]\",:=&+ \n0-."[..])];
        let edit = (any::<Index>(), byte, 0..3u8);
        let edited = (any::<Index>(), vec(edit, 0..6)).prop_map(move |(seed, edits)| {
            let mut input = seed.get(&seeds).clone();
            for (at, byte, kind) in edits {
                let at = at.index(input.len() + 1);
                match kind {
                    0 if at < input.len() => input[at] = byte,
                    1 if at < input.len() => drop(input.drain(at..)),
                    _ => input.insert(at, byte),
                }
            }
            input
        });
        prop_oneof![4 => edited, 1 => any::<Vec<u8>>()]
    }

    macro_rules! targets {
        ($($(#[$attribute:meta])* $test:ident: $target:ident;)*) => {$(
            $(#[$attribute])*
            #[test]
            fn $test() {
                let target = stringify!($target);
                for seed in seeds(target) {
                    super::$target(&seed);
                }
                proptest!(|(input in inputs(target))| super::$target(&input));
            }
        )*};
    }

    targets! {
        f10_every_token_response_is_read_or_refused: token_response;
        f10_every_error_response_becomes_a_printable_error: error_response;
        f06_every_date_and_wait_is_kept_within_bounds: dates;
        trs_11_every_scope_is_made_of_scope_tokens: scopes;
        cha_04_every_challenge_is_read_or_gives_no_reason: www_authenticate;
        dsc_03_every_document_is_safe_to_follow_or_refused: metadata;
        #[cfg(feature = "private-key-jwt")]
        jwt_06_every_key_signs_or_is_refused_unseen: keys;
        #[cfg(feature = "store")]
        f33_every_stored_record_is_read_or_refused: stored_record;
    }
}
