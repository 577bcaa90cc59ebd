#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tower_oauth::fuzzing::www_authenticate(data));
