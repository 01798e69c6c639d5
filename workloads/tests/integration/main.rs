//! `bench` as a program. One binary, a module for each topic.

mod apple;
mod backends;
mod inference;
