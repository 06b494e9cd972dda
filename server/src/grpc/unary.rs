//! gRPC over HTTP/2 for a call of one message and one answer, which is all that this service has. tonic's own way is made for
//! streams of them, and boxes and copies at each step for it (measured: see `bench/README.md`).

use std::{
    mem,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::poll_fn;
use http::{
    HeaderMap, HeaderName, HeaderValue, Response,
    header::CONTENT_TYPE,
};
use hyper::body::{Body, Frame};
use prost::Message;
use tonic::Status;

use super::{MAX_MESSAGE_BYTES, status};

/// Bytes before a message: whether it is compressed, and its length.
const HEAD: usize = 5;

/// Reads the one message of a body, and answers it.
///
/// A body that is no message, or one of more than [`MAX_MESSAGE_BYTES`], is answered without the handler: INVALID_ARGUMENT. So is
/// a compressed one: UNIMPLEMENTED, as gRPC has it.
pub async fn answer<M, A, F>(body: impl Body<Data = Bytes>, handle: impl FnOnce(M) -> F) -> Response<Reply>
where
    M: Message + Default,
    A: Message,
    F: Future<Output = Result<A, Status>>,
{
    let answer = match read(body).await {
        Ok(message) => handle(message).await,
        Err(refusal) => Err(refusal),
    };
    match answer {
        Ok(answer) => Reply::message(&answer),
        Err(status) => Reply::refusal(status),
    }
}

/// Reads the one message of a body.
async fn read<M: Message + Default>(body: impl Body<Data = Bytes>) -> Result<M, Status> {
    let mut body = pin!(body);
    let mut all = piece(&mut body).await?.unwrap_or_default();
    let mut complete = is_complete(&all)?;
    // Nearly always it came in one piece, which is then read where it lies.
    if let Some(second) = piece(&mut body).await? {
        let mut gathered = BytesMut::from(&all[..]);
        gathered.put(second);
        complete = is_complete(&gathered)?;
        while let Some(more) = piece(&mut body).await? {
            gathered.put(more);
            complete = is_complete(&gathered)?;
        }
        all = gathered.freeze();
    }
    if !complete {
        return Err(status::unreadable_message());
    }
    M::decode(all.split_off(HEAD)).map_err(|_| status::unreadable_message())
}

/// The next bytes of a body; `None` at its end.
async fn piece(body: &mut Pin<&mut impl Body<Data = Bytes>>) -> Result<Option<Bytes>, Status> {
    loop {
        if body.is_end_stream() {
            return Ok(None);
        }
        match poll_fn(|context| body.as_mut().poll_frame(context)).await {
            None => return Ok(None),
            Some(Ok(frame)) => {
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
            // The caller has gone, or does not speak HTTP: hardly anyone will hear this.
            Some(Err(_)) => return Err(status::unreadable_message()),
        }
    }
}

/// Whether all of the message is there. What cannot become one is refused before more of it is read.
fn is_complete(body: &[u8]) -> Result<bool, Status> {
    let Some((&[compressed, ref length @ ..], message)) = body.split_first_chunk::<HEAD>() else { return Ok(false) };
    let length = u32::from_be_bytes(*length) as usize;
    match compressed {
        0 if length > MAX_MESSAGE_BYTES => Err(status::message_too_large()),
        0 if message.len() > length => Err(status::unreadable_message()),
        0 => Ok(message.len() == length),
        1 => Err(status::compressed()),
        _ => Err(status::unreadable_message()),
    }
}

/// The body of an answer.
#[derive(Debug)]
pub enum Reply {
    /// A message with its head.
    Message(Bytes),
    /// What comes behind the message: that all went well.
    Trailers,
    /// Nothing more, or nothing but a status that is told in the answer's head.
    Nothing,
    /// What another service answers.
    Others(tonic::body::Body),
}

impl Reply {
    fn message(message: &impl Message) -> Response<Self> {
        let length = message.encoded_len();
        let mut frame = BytesMut::with_capacity(HEAD + length);
        frame.put_u8(0);
        // An answer is about as large as a session, which is far below 4 GiB.
        frame.put_u32(length as u32);
        message.encode_raw(&mut frame);
        let mut response = Response::new(Self::Message(frame.freeze()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response
    }

    pub(super) fn refusal(status: Status) -> Response<Self> {
        status.into_http::<()>().map(|()| Self::Nothing)
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Self::Others(body) = &mut *self {
            return Pin::new(body).poll_frame(context);
        }
        Poll::Ready(match mem::replace(&mut *self, Self::Nothing) {
            Self::Message(frame) => {
                *self = Self::Trailers;
                Some(Ok(Frame::data(frame)))
            }
            Self::Trailers => {
                let ok = (const { HeaderName::from_static("grpc-status") }, HeaderValue::from_static("0"));
                Some(Ok(Frame::trailers(HeaderMap::from_iter([ok]))))
            }
            Self::Nothing | Self::Others(_) => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Message(_) | Self::Trailers => false,
            Self::Nothing => true,
            Self::Others(body) => body.is_end_stream(),
        }
    }
}
