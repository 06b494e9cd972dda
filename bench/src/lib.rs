//! What sessiond costs, measured beside what others cost. `bench/README.md` says what is compared and how to read it.
//!
//! # Layout
//!
//! - [`plan`]: who is measured at what, and in which order; [`run`] does it; [`growth`] measures what needs a setting of its
//!   own: memory, and what becomes of the cost when there is more of everything.
//! - [`contestants`]: the processes that are measured. What they run is [`echo`], [`tuned`], [`textbook`] and [`direct`].
//! - [`load`]: the generator, with [`wire`]: the messages it sends; [`generators`]: several of them, in processes of their own.
//! - [`accounts`]: what the kernel tells of a process. [`syscalls`]: what a process asks of the kernel. [`noise`]: what else the machine did meanwhile.
//! - [`figures`], [`verdict`], [`report`], [`table`], [`picture`]: what becomes of it.

pub mod accounts;
pub mod contestants;
pub mod direct;
pub mod echo;
pub mod figures;
pub mod generators;
pub mod growth;
pub mod load;
pub mod noise;
pub mod picture;
pub mod plan;
pub mod report;
pub mod run;
pub mod syscalls;
pub mod table;
pub mod textbook;
pub mod tuned;
pub mod verdict;
pub mod wire;
