#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kubby::testing::fuzzing::template_header(bytes));
