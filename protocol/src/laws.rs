//! The laws of this crate, as plain functions over bytes: the tests run them over a committed corpus and over
//! random bytes, `protocol/fuzz` over what a fuzzer finds. Each panics when its law does not hold; nothing else
//! calls them.
