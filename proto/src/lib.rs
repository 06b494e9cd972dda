//! The contract of sessiond as Rust types: messages, client stub and server trait of the package `sessiond.v1`.
//!
//! The schema itself, with what every field means, is in `sessiond/v1/*.proto` of this crate; the code below
//! [`v1`] is generated from it by this crate's test and committed, so that nobody needs a `protoc`.
//!
//! One type is written by hand: [`RawStruct`] stands in for `google.protobuf.Struct` and keeps it as the bytes that
//! came over the wire.

mod raw_struct;

pub use raw_struct::RawStruct;

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, rustdoc::all)]
#[rustfmt::skip]
mod generated {
    pub mod sessiond_v1;
}

/// Messages, client stub and server trait of the protobuf package `sessiond.v1`.
pub mod v1 {
    pub use crate::generated::sessiond_v1::*;

    /// The encoded `google.protobuf.FileDescriptorSet` of the package and its imports, comments and options
    /// included: what server reflection answers from.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/sessiond_v1.bin");
}

/// A `Debug` that shows nothing: these messages hold ids and request ids, or messages that do.
macro_rules! secret {
    ($($message:ident),*) => {$(
        impl std::fmt::Debug for v1::$message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($message), "(..)"))
            }
        }
    )*};
}

secret!(Session, OpenRequest, OpenResponse, SaveRequest, SaveResponse, DestroyRequest);

#[cfg(test)]
mod tests {
    use super::v1;

    #[test]
    fn debug_of_a_message_shows_no_secret() {
        let session = Some(v1::Session { id: "secret".to_owned(), ..Default::default() });
        let save = v1::SaveRequest { session, request_id: "secret".to_owned(), ..Default::default() };
        assert_eq!(format!("{save:?}"), "SaveRequest(..)");
    }
}
