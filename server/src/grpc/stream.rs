//! A call's HTTP/2 stream: what is asked comes by it as a body, and the answer goes out by it.

use std::{
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_util::future::poll_fn;
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::{Body, Frame};

use super::unary::Reply;

/// A call's request, as it comes.
#[derive(Debug)]
pub struct Incoming(RecvStream);

impl From<RecvStream> for Incoming {
    fn from(stream: RecvStream) -> Self {
        Self(stream)
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let Some(piece) = ready!(self.0.poll_data(context)) else { return Poll::Ready(None) };
        let piece = piece?;
        // With the last piece the stream gives all of its room back by itself.
        if !self.0.is_end_stream() {
            self.0.flow_control().release_capacity(piece.len())?;
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

/// Has a call answered. A caller who goes away meanwhile is not worked for any longer.
pub async fn deliver(answer: impl Future<Output = Response<Reply>>, mut caller: SendResponse<Bytes>) {
    let answer = tokio::select! {
        biased;
        answer = answer => answer,
        _ = poll_fn(|context| caller.poll_reset(context)) => return,
    };
    // Nobody is left to hear of what could not be sent.
    let _ = send(answer, caller).await;
}

async fn send(answer: Response<Reply>, mut caller: SendResponse<Bytes>) -> Result<(), h2::Error> {
    let (head, reply) = answer.into_parts();
    let head = Response::from_parts(head, ());
    match reply {
        // h2 keeps what the caller has no room for yet: as much as would else be kept here.
        Reply::Message(message) => {
            let mut stream = caller.send_response(head, false)?;
            stream.send_data(message, false)?;
            let ok = (const { HeaderName::from_static("grpc-status") }, HeaderValue::from_static("0"));
            stream.send_trailers(HeaderMap::from_iter([ok]))
        }
        Reply::Nothing => caller.send_response(head, true).map(drop),
        Reply::Others(body) => {
            let ended = body.is_end_stream();
            let stream = caller.send_response(head, ended)?;
            if ended { Ok(()) } else { pass_on(body, stream).await }
        }
    }
}

/// Passes on what another service answers, which may be any number of messages: each when the caller has room for some of it.
async fn pass_on(body: tonic::body::Body, mut stream: SendStream<Bytes>) -> Result<(), h2::Error> {
    let mut body = pin!(body);
    loop {
        let frame = tokio::select! {
            biased;
            frame = poll_fn(|context| body.as_mut().poll_frame(context)) => frame,
            gone = poll_fn(|context| stream.poll_reset(context)) => return gone.map(drop),
        };
        let Some(frame) = frame else { return stream.send_data(Bytes::new(), true) };
        let Ok(frame) = frame else {
            stream.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        };
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => return stream.send_trailers(trailers),
                Err(_) => continue,
            },
        };
        stream.reserve_capacity(1);
        match poll_fn(|context| stream.poll_capacity(context)).await {
            Some(room) => room?,
            None => return Ok(()),
        };
        stream.send_data(data, false)?;
    }
}
