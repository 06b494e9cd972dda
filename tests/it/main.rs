//! The service against the real thing: a real process, a real Redis, a real network. One file per question.

mod actix;
mod blocking;
mod browser;
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
mod redis;
mod running;
mod stores;
mod stranger;
mod twins;
mod vectors;
mod web;
