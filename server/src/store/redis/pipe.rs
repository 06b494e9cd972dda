//! A connection that many ask on at once. A question is written behind those that wait to be sent, and all of them go out in one
//! write; answers come in the same order, and each is handed to whom it belongs. redis-rs's own does the same with a channel, a
//! channel back for each question, and a parser for everything (measured: see `bench/README.md`). (Long by some lines: who asks and
//! who sends share one state, and are read together.)

use std::{
    borrow::Cow,
    collections::VecDeque,
    future::poll_fn,
    io, mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, BytesMut};
use redis::{Cmd, PushInfo, PushKind, RedisError, RedisResult, Value};
use slab::Slab;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::Notify,
};
use tokio_util::io::poll_read_buf;

use super::{cause, resp};

/// How much is read at once, at least.
const READ: usize = 16 << 10;

/// How many bytes may wait to be sent, and how many questions for their answers, before whoever asks next has to wait. So what a
/// Redis that hangs makes this process hold is what the calls themselves hold.
const MOST: (usize, usize) = (1 << 20, 16_384);

/// A buffer that a burst made larger than this is not kept.
const KEPT: usize = 256 << 10;

/// Clones are the same connection, which ends with the last of them.
#[derive(Clone)]
pub(super) struct Pipe(Arc<End>);

/// The end of the pipe that is asked on.
struct End(Arc<Shared>);

#[derive(Default)]
struct Shared {
    questions: Mutex<Questions>,
    /// Tells that there is room again.
    room: Notify,
}

/// What is under way.
#[derive(Default)]
struct Questions {
    /// Not sent yet.
    outgoing: Vec<u8>,
    /// By their place, in the order that they were asked in.
    order: VecDeque<usize>,
    places: Slab<Place>,
    /// Who sends and receives, while there is nothing to do.
    driver: Option<Waker>,
    /// Whether someone waits for room.
    is_full: bool,
    /// Why nothing can be asked any more.
    over: Option<Closed>,
}

/// Why a connection has ended.
#[derive(Clone, Debug)]
struct Closed {
    kind: io::ErrorKind,
    why: Cow<'static, str>,
}

impl Closed {
    fn new(kind: io::ErrorKind, why: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, why: why.into() }
    }
}

impl From<Closed> for RedisError {
    fn from(closed: Closed) -> Self {
        io::Error::new(closed.kind, closed.why.into_owned()).into()
    }
}

/// A question.
struct Place {
    answers: Vec<Value>,
    /// How many more will come.
    missing: usize,
    /// Who waits for them.
    asks: Option<Waker>,
    /// Nobody does any more.
    is_abandoned: bool,
}

/// A question that waits for its answers.
struct Ask<'a> {
    shared: &'a Shared,
    place: usize,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Questions> {
        // A panic of the driver's ends the connection, whatever it left here.
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pipe {
    /// A pipe over this stream. `pushed` hears what Redis says unasked, and when the connection is lost; it must not wait. Must be
    /// called within a runtime.
    pub(super) fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        pushed: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let driver = Driver {
            stream,
            shared: Arc::clone(&shared),
            sending: Vec::new(),
            sent: 0,
            is_flushed: true,
            incoming: BytesMut::new(),
            pushed,
            over: Closed::new(io::ErrorKind::Other, "the task that receives replies has ended"),
        };
        tokio::spawn(driver.run());
        Self(Arc::new(End(shared)))
    }

    /// Asks, and waits for one answer to each of the commands. Errors among them are answers, too.
    ///
    /// # Errors
    /// When the connection is lost, or was.
    pub(super) async fn ask<'c>(&self, mut commands: impl Iterator<Item = &'c Cmd>) -> RedisResult<Vec<Value>> {
        let shared = &self.0.0;
        let mut ask = loop {
            let room = shared.room.notified();
            match shared.put(commands)? {
                Ok(ask) => break ask,
                Err(not_put) => commands = not_put,
            }
            room.await;
        };
        poll_fn(|context| ask.poll(context)).await
    }
}

impl Shared {
    /// Puts a question behind the others, or gives it back if there is no room.
    fn put<'c, I: Iterator<Item = &'c Cmd>>(&self, commands: I) -> RedisResult<Result<Ask<'_>, I>> {
        let mut questions = self.lock();
        if let Some(over) = &questions.over {
            return Err(over.clone().into());
        }
        if questions.outgoing.len() >= MOST.0 || questions.order.len() >= MOST.1 {
            questions.is_full = true;
            return Ok(Err(commands));
        }
        let mut missing = 0;
        for command in commands {
            command.write_packed_command(&mut questions.outgoing);
            missing += 1;
        }
        let answers = Vec::with_capacity(missing);
        let place = questions.places.insert(Place { answers, missing, asks: None, is_abandoned: false });
        if missing > 0 {
            questions.order.push_back(place);
            questions.wake_driver();
        }
        Ok(Ok(Ask { shared: self, place }))
    }

    /// Tells who waits for room that there may be some.
    fn make_room(&self, questions: &mut Questions) {
        if mem::take(&mut questions.is_full) {
            self.room.notify_waiters();
        }
    }
}

impl Questions {
    fn wake_driver(&mut self) {
        // Once is enough: it takes all that is there.
        if let Some(driver) = self.driver.take() {
            driver.wake();
        }
    }

    /// The error that was the reply to a part of the oldest request, whose other replies never came.
    fn refusal(&self) -> Option<Cow<'static, str>> {
        let place = self.places.get(*self.order.front()?)?;
        place.answers.iter().find_map(|answer| match answer {
            Value::ServerError(error) => Some(cause::server_error(error)),
            _ => None,
        })
    }

    /// Hands the next answer to whom it belongs.
    fn answer(&mut self, answer: Value) -> Result<(), Closed> {
        let place = self.order.front().and_then(|at| Some((*at, self.places.get_mut(*at)?)));
        let Some((at, place)) = place else {
            // A server that refuses a connection says why before it was sent anything, and closes.
            let why = match &answer {
                Value::ServerError(error) => cause::server_error(error),
                _ => Cow::Borrowed("a reply came that belongs to no request"),
            };
            return Err(Closed::new(io::ErrorKind::InvalidData, why));
        };
        place.answers.push(answer);
        place.missing -= 1;
        if place.missing == 0 {
            self.order.pop_front();
            if place.is_abandoned {
                self.places.remove(at);
            } else if let Some(asks) = place.asks.take() {
                asks.wake();
            }
        }
        Ok(())
    }
}

impl Ask<'_> {
    fn poll(&mut self, context: &Context<'_>) -> Poll<RedisResult<Vec<Value>>> {
        let mut questions = self.shared.lock();
        let Questions { places, over, .. } = &mut *questions;
        let place = &mut places[self.place];
        if place.missing == 0 {
            return Poll::Ready(Ok(mem::take(&mut place.answers)));
        }
        if let Some(over) = over {
            return Poll::Ready(Err(over.clone().into()));
        }
        match &mut place.asks {
            Some(asks) if asks.will_wake(context.waker()) => {}
            asks => *asks = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Ask<'_> {
    fn drop(&mut self) {
        let mut questions = self.shared.lock();
        let is_over = questions.over.is_some();
        let place = &mut questions.places[self.place];
        if place.missing == 0 || is_over {
            questions.places.remove(self.place);
        } else {
            place.is_abandoned = true;
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut questions = self.0.lock();
        questions.over.get_or_insert(Closed::new(io::ErrorKind::NotConnected, "the connection is not used any more"));
        questions.wake_driver();
    }
}

/// Sends questions and receives answers.
struct Driver<S, P: Fn(PushInfo)> {
    stream: S,
    shared: Arc<Shared>,
    sending: Vec<u8>,
    sent: usize,
    is_flushed: bool,
    incoming: BytesMut,
    pushed: P,
    /// Why it has ended.
    over: Closed,
}

impl<S: AsyncRead + AsyncWrite + Unpin, P: Fn(PushInfo)> Driver<S, P> {
    async fn run(mut self) {
        self.over = poll_fn(|context| self.poll(context)).await;
    }

    /// Does what there is to do; ready when the connection is over, with the reason.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Closed> {
        {
            let mut questions = self.shared.lock();
            if let Some(over) = &questions.over {
                return Poll::Ready(over.clone());
            }
            // Before it is looked whether there is anything to send: what is asked from now on wakes this again.
            questions.driver.get_or_insert_with(|| context.waker().clone());
        }
        match self.poll_send(context) {
            // What was received before the connection failed may say why.
            Poll::Ready(over) => match self.poll_receive(context) {
                Poll::Ready(received) => Poll::Ready(received),
                Poll::Pending => Poll::Ready(over),
            },
            Poll::Pending => self.poll_receive(context),
        }
    }

    /// Never ready but with the end.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Closed> {
        loop {
            if self.sent == self.sending.len() {
                self.sending.clear();
                self.sent = 0;
                if self.sending.capacity() > KEPT {
                    self.sending = Vec::new();
                }
                let mut questions = self.shared.lock();
                mem::swap(&mut self.sending, &mut questions.outgoing);
                self.shared.make_room(&mut questions);
                drop(questions);
                if self.sending.is_empty() {
                    if !self.is_flushed {
                        match ready!(Pin::new(&mut self.stream).poll_flush(context)) {
                            Ok(()) => self.is_flushed = true,
                            Err(error) => return Poll::Ready(lost(&error)),
                        }
                    }
                    return Poll::Pending;
                }
            }
            match ready!(Pin::new(&mut self.stream).poll_write(context, &self.sending[self.sent..])) {
                Ok(0) => return Poll::Ready(Closed::new(io::ErrorKind::WriteZero, "nothing can be written")),
                Ok(written) => self.sent += written,
                Err(error) => return Poll::Ready(lost(&error)),
            }
            self.is_flushed = false;
        }
    }

    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Closed> {
        loop {
            self.incoming.reserve(READ);
            match ready!(poll_read_buf(Pin::new(&mut self.stream), context, &mut self.incoming)) {
                Ok(0) if cause::is_tls_alert(&self.incoming) => return Poll::Ready(speaks_tls()),
                Ok(0) => {
                    return Poll::Ready(Closed::new(io::ErrorKind::UnexpectedEof, "Redis closed the connection"));
                }
                Ok(_) => {}
                Err(error) => return Poll::Ready(lost(&error)),
            }
            if let Err(over) = self.hand_out() {
                return Poll::Ready(over);
            }
        }
    }

    /// Hands out the answers that are all there.
    fn hand_out(&mut self) -> Result<(), Closed> {
        let mut questions = self.shared.lock();
        loop {
            let read = resp::read(&self.incoming);
            let read = read.map_err(|_| if cause::is_tls_alert(&self.incoming) { speaks_tls() } else { no_resp() })?;
            let Some((answer, length)) = read else { break };
            self.incoming.advance(length);
            match answer {
                // To subscribe to a channel is answered by a push.
                Value::Push { kind, data } if kind != PushKind::Subscribe => (self.pushed)(PushInfo { kind, data }),
                answer => questions.answer(answer)?,
            }
        }
        self.shared.make_room(&mut questions);
        if self.incoming.is_empty() && self.incoming.capacity() > KEPT {
            self.incoming = BytesMut::new();
        }
        Ok(())
    }
}

impl<S, P: Fn(PushInfo)> Drop for Driver<S, P> {
    /// Tells all that wait, however it came to this.
    fn drop(&mut self) {
        let mut questions = self.shared.lock();
        if questions.over.is_some() {
            // It was not lost: nobody asks any more.
            return;
        }
        (self.pushed)(PushInfo { kind: PushKind::Disconnection, data: Vec::new() });
        let refusal = questions.refusal().map(|why| Closed::new(io::ErrorKind::InvalidData, why));
        questions.over = Some(refusal.unwrap_or_else(|| self.over.clone()));
        questions.order.clear();
        questions.places.retain(|_, place| !place.is_abandoned);
        questions.places.iter_mut().filter_map(|(_, place)| place.asks.take()).for_each(Waker::wake);
        self.shared.make_room(&mut questions);
    }
}

fn lost(error: &io::Error) -> Closed {
    Closed::new(error.kind(), cause::of_io(error))
}

fn speaks_tls() -> Closed {
    Closed::new(io::ErrorKind::InvalidData, format!("the reply is TLS; {}", cause::TLS))
}

fn no_resp() -> Closed {
    Closed::new(io::ErrorKind::InvalidData, "the reply is not RESP: it is not a Redis")
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use futures_util::future::{join_all, poll_immediate};
    use redis::{Pipeline, cmd};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
        task::yield_now,
        time::sleep,
    };

    use super::*;

    /// A pipe, Redis's end of it, and how often it was told that the connection is lost.
    fn pipe() -> (Pipe, DuplexStream, Arc<AtomicUsize>) {
        // So narrow that hardly anything is read or written at once.
        let (stream, redis) = duplex(7);
        let losses = Arc::new(AtomicUsize::new(0));
        let counts = Arc::clone(&losses);
        let pushed = move |push: PushInfo| {
            assert_eq!(push.kind, PushKind::Disconnection);
            counts.fetch_add(1, Ordering::Relaxed);
        };
        (Pipe::over(stream, pushed), redis, losses)
    }

    fn echo(text: &str) -> Cmd {
        let mut echo = cmd("ECHO");
        echo.arg(text);
        echo
    }

    /// Answers every ECHO, for ever.
    async fn serve(mut redis: DuplexStream) {
        let (mut asked, mut chunk) = (Vec::new(), [0; 64]);
        loop {
            while let Ok(Some((Value::Array(words), length))) = resp::read(&asked) {
                asked.drain(..length);
                let Value::BulkString(text) = &words[1] else { panic!("{words:?}") };
                redis.write_all(format!("${}\r\n", text.len()).as_bytes()).await.unwrap();
                redis.write_all(&[text, &b"\r\n"[..]].concat()).await.unwrap();
            }
            match redis.read(&mut chunk).await {
                Ok(0) | Err(_) => return,
                Ok(read) => asked.extend(&chunk[..read]),
            }
        }
    }

    #[tokio::test]
    async fn everyone_gets_the_answers_to_their_own_questions() {
        let (pipe, redis, losses) = pipe();
        let server = tokio::spawn(serve(redis));
        let calls = (0..100).map(|number| {
            let pipe = pipe.clone();
            async move {
                let mut two = Pipeline::new();
                two.add_command(echo(&format!("{number}a"))).add_command(echo(&"b".repeat(number)));
                if number % 7 == 0 {
                    // Goes before the answers come.
                    assert!(poll_immediate(pipe.ask(two.cmd_iter())).await.is_none());
                    return;
                }
                let answers = pipe.ask(two.cmd_iter()).await.unwrap();
                let text = |text: String| Value::BulkString(text.into_bytes());
                assert_eq!(answers, [text(format!("{number}a")), text("b".repeat(number))]);
            }
        });
        join_all(calls).await;
        assert!(pipe.0.0.lock().order.is_empty() && pipe.0.0.lock().places.is_empty(), "nothing is kept");
        drop(pipe);
        server.await.expect("Redis's end is closed");
        assert_eq!(losses.load(Ordering::Relaxed), 0, "it was not lost");
    }

    #[tokio::test]
    async fn whoever_waits_is_told_when_the_connection_is_lost_and_so_is_whoever_comes_then() {
        let (pipe, redis, losses) = pipe();
        let commands = [echo("x")];
        let mut waits = Box::pin(pipe.ask(commands.iter()));
        assert!(poll_immediate(&mut waits).await.is_none());
        drop(redis);
        assert!(waits.await.unwrap_err().is_io_error());
        assert!(pipe.ask(commands.iter()).await.unwrap_err().is_io_error());
        assert_eq!(losses.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn who_finds_no_room_waits_for_some() {
        let (pipe, redis, _) = pipe();
        let large = [echo(&"x".repeat(MOST.0))];
        let mut first = Box::pin(pipe.ask(large.iter()));
        assert!(poll_immediate(&mut first).await.is_none());
        let mut second = Box::pin(pipe.ask(large.iter()));
        assert!(poll_immediate(&mut second).await.is_none());
        assert_eq!(pipe.0.0.lock().places.len(), 1, "the second is not put behind the first");
        // One that goes leaves nothing behind.
        drop(Box::pin(pipe.ask(large.iter())));
        drop(first);
        tokio::spawn(serve(redis));
        assert_eq!(second.await.unwrap().len(), 1);
        let questions = pipe.0.0.lock();
        assert!(questions.places.is_empty() && questions.outgoing.capacity() <= KEPT, "nothing is kept");
    }

    #[tokio::test]
    async fn no_question_has_no_answer() {
        let (pipe, redis, _) = pipe();
        tokio::spawn(serve(redis));
        assert_eq!(pipe.ask([].iter()).await.unwrap(), []);
        assert_eq!(pipe.ask([echo("a")].iter()).await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_is_no_answer_ends_the_connection() {
        for wrong in ["HTTP/1.1 400\r\n", ":1\r\n:2\r\n"] {
            let (pipe, mut redis, losses) = pipe();
            let commands = [echo("x")];
            let mut waits = Box::pin(pipe.ask(commands.iter()));
            assert!(poll_immediate(&mut waits).await.is_none());
            redis.write_all(wrong.as_bytes()).await.unwrap();
            let _ = waits.await;
            while losses.load(Ordering::Relaxed) == 0 {
                yield_now().await;
            }
            assert!(pipe.ask(commands.iter()).await.is_err(), "{wrong:?}");
        }
    }

    /// What the next request fails with on a connection that Redis refuses: it says why unasked, and closes.
    async fn refused(says: &str, before_the_request: bool) -> String {
        let (pipe, mut redis, _) = pipe();
        let mut commands = Pipeline::new();
        commands.cmd("HELLO").arg(3).cmd("PING");
        let mut waits = Box::pin(pipe.ask(commands.cmd_iter()));
        if before_the_request {
            redis.write_all(says.as_bytes()).await.unwrap();
            drop(redis);
            yield_now().await;
        } else {
            assert!(poll_immediate(&mut waits).await.is_none());
            redis.write_all(says.as_bytes()).await.unwrap();
            drop(redis);
        }
        waits.await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn the_error_that_redis_sends_before_it_closes_is_the_cause() {
        for (says, why) in [
            ("-ERR max number of clients reached\r\n", "max number of clients reached"),
            ("-DENIED Redis is running in protected mode because\r\n", "DENIED"),
            ("-ODD hunter2\r\n", "ODD"),
            ("\x15\x03\x01\x00\x02\x02\x46", "rediss://"),
            ("", "Redis closed the connection"),
        ] {
            for before_the_request in [true, false] {
                let cause = refused(says, before_the_request).await;
                assert!(cause.contains(why) && !cause.contains("hunter2"), "{says:?}, {before_the_request}: {cause}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pipe_that_cannot_be_written_to_ends_with_its_last_clone() {
        let (pipe, mut redis, _) = pipe();
        let commands = [echo(&"x".repeat(100))];
        assert!(poll_immediate(pipe.ask(commands.iter())).await.is_none());
        sleep(Duration::from_secs(1)).await;
        drop(pipe);
        let mut all = Vec::new();
        redis.read_to_end(&mut all).await.unwrap();
        assert!(all.len() < 100, "{}", all.len());
    }
}
