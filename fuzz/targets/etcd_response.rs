#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tokenkeep::fuzzing::etcd_response(input));
