#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tower_oauth::fuzzing::stored_record(data));
