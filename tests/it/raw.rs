//! Bytes as no library would send them: a protobuf encoder that checks nothing, and calls that carry what it made.

use std::iter;

use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use tonic::{
    Request, Status,
    client::{Grpc, GrpcService},
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

fn number(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn tag(field: u64, wire: u64) -> Vec<u8> {
    number(field << 3 | wire)
}

/// A field that is a varint.
pub(crate) fn varint(field: u64, value: u64) -> Vec<u8> {
    [tag(field, 0), number(value)].concat()
}

/// A field of eight bytes: a double.
pub(crate) fn double(field: u64, value: f64) -> Vec<u8> {
    [tag(field, 1), value.to_le_bytes().to_vec()].concat()
}

/// A field with a length: a string, or a message.
pub(crate) fn bytes(field: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    [tag(field, 2), number(content.len() as u64), content.to_vec()].concat()
}

/// A field that is a group, as protobuf had them in its first version.
pub(crate) fn group(field: u64, content: impl AsRef<[u8]>) -> Vec<u8> {
    [tag(field, 3), content.as_ref().to_vec(), tag(field, 4)].concat()
}

/// An entry of a `google.protobuf.Struct`: a key with the bytes of its `google.protobuf.Value`.
pub(crate) fn entry(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    bytes(1, [bytes(1, key), bytes(2, value)].concat())
}

/// A value that is a string.
pub(crate) fn text(text: impl AsRef<[u8]>) -> Vec<u8> {
    bytes(3, text)
}

/// A value that is an object of these entries.
pub(crate) fn object(entries: impl AsRef<[u8]>) -> Vec<u8> {
    bytes(5, entries)
}

/// A value that is a list of these values.
pub(crate) fn list(values: &[Vec<u8>]) -> Vec<u8> {
    bytes(6, values.iter().flat_map(|value| bytes(1, value)).collect::<Vec<_>>())
}

/// A value: so many objects within one another, in the innermost so many lists, and in that a `true`.
pub(crate) fn nested(objects: usize, lists: usize) -> Vec<u8> {
    let leaf = iter::repeat_n((), lists).fold(varint(4, 1), |inner, ()| list(&[inner]));
    iter::repeat_n((), objects).fold(leaf, |inner, ()| object(entry("k", inner)))
}

/// Calls a method of the service with these bytes as its message, and gives those of the answer.
pub(crate) async fn call(channel: Channel, method: &str, message: Vec<u8>) -> Result<Bytes, Status> {
    stream(channel, method, Request::new(tokio_stream::once(message))).await
}

/// Calls a method of the service with whatever messages come, even if it takes one.
pub(crate) async fn stream<S>(channel: Channel, method: &str, messages: Request<S>) -> Result<Bytes, Status>
where
    S: tokio_stream::Stream<Item = Vec<u8>> + Send + 'static,
{
    let mut grpc = Grpc::new(channel).max_decoding_message_size(usize::MAX);
    grpc.ready().await.expect("sessiond is there");
    Ok(grpc.client_streaming(messages, path(method), Raw).await?.into_inner())
}

/// Calls a method of the service with this as the body of its request: frames, or what is none.
pub(crate) async fn body(mut channel: Channel, method: &str, body: &'static str) -> Status {
    let request = http::Request::post(path(method).as_str())
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(body.to_owned()))
        .expect("a request");
    std::future::poll_fn(|context| GrpcService::poll_ready(&mut channel, context)).await.expect("sessiond is there");
    let answer = GrpcService::call(&mut channel, request).await.expect("an answer");
    Status::from_header_map(answer.headers()).expect("an answer that is nothing but a status")
}

fn path(method: &str) -> PathAndQuery {
    format!("/sessiond.v1.SessionService/{method}").parse().expect("a path")
}

/// Takes bytes for messages.
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(&message[..]);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
