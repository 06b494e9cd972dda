//! The service against the real thing: a real process, a real Redis, a real network. One file per question.

#![expect(
    clippy::duplicate_mod,
    reason = "`blocking` runs the tests of `client` once more, with the client that blocks"
)]

mod actix;
mod blocking;
mod browser;
mod careless;
mod client;
mod errors;
mod faults;
mod histories;
mod lifecycle;
mod model;
mod papers;
mod promises;
mod races;
mod raw;
mod raw_grpc;
mod readers;
mod redis;
mod running;
mod stores;
mod stranger;
mod twins;
mod upgrades;
mod vectors;
mod web;
