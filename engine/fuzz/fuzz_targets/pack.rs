#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| drover_hostile::run("pack", bytes));
