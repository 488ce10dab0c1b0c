// libFuzzer itself comes with -sanitize=fuzzer.
typedef int fuzzer_declares_nothing_else;
