//! `bench` as a program. One binary, a module for each topic.
#![expect(clippy::disallowed_methods, reason = "tests write in folders of their own")]

mod apple;
mod backends;
mod inference;
