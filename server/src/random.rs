//! Chance comes in by the door: the rules draw every random byte from a [`Random`].

use std::fmt::Debug;

/// Draws random bytes.
pub trait Random: Debug + Send + Sync {
    /// Fills the buffer with bytes that nobody can predict.
    fn fill(&self, buffer: &mut [u8]);
}

/// The operating system's generator (a CSPRNG; ASVS 11.5.1).
#[derive(Debug, Default)]
pub struct OsRandom;

impl Random for OsRandom {
    fn fill(&self, buffer: &mut [u8]) {
        // A machine that cannot give random bytes must not mint ids: the panic answers INTERNAL.
        getrandom::fill(buffer).expect("the operating system gives random bytes");
    }
}
