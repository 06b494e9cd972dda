//! What the four workers of a history do.

use sessiond_proto::v1::{DestroyRequest, OpenRequest, SaveRequest, Session};
use tonic::{Code, Request as Sent, Status};

use super::{
    Answer, Call, Change, Data, Save, WORKERS,
    recorder::{Recorder, on_the_wire},
};
use crate::{Calls, Dice, Stub, again, reason, request_id};

/// No worker begins anything more in a history of so many events.
const ENOUGH: usize = 44;

/// At the end, so many ids are looked at, the newest first. (All in all these are less than 64 events.)
const LOOKS: usize = 4;

/// A session's whole life: four workers at once, and then a look at the ids that there were.
pub(super) async fn live(recorder: &Recorder, stubs: &[Stub; WORKERS], dice: &Dice) {
    let birth = Birth { call: (recorder.request(), Data::from([("count".to_owned(), 0)])), request_id: request_id() };
    let [mut a, mut b, mut c, mut d] = std::array::from_fn(|number| Worker {
        number,
        stub: stubs[number].clone(),
        dice: dice.split(number),
        recorder,
        birth: &birth,
        earlier: Vec::new(),
    });
    if dice.clone().once_in(2) {
        // Born before the four meet; else they meet at its birth.
        a.create().await;
    }
    tokio::join!(a.work(), b.work(), c.work(), d.work());
    let mut ids: Vec<String> = Vec::new();
    for Session { id, .. } in recorder.known().into_iter().rev() {
        if !ids.contains(&id) && ids.len() < LOOKS {
            ids.push(id);
        }
    }
    for id in ids {
        a.open(&id).await;
    }
}

/// How all workers of a history create its session: it is one request.
struct Birth {
    call: (super::Request, Data),
    request_id: String,
}

/// What is sent.
#[derive(Clone)]
enum Sending {
    Open(OpenRequest),
    Save(Box<SaveRequest>),
    Destroy(DestroyRequest),
}

struct Worker<'a> {
    number: usize,
    stub: Stub,
    dice: Dice,
    recorder: &'a Recorder,
    birth: &'a Birth,
    /// The Saves that it has sent.
    earlier: Vec<(Call, Box<SaveRequest>)>,
}

impl Worker<'_> {
    async fn work(&mut self) {
        for _ in 0..3 + self.dice.below(5) {
            self.dawdle().await;
            if self.recorder.len() >= ENOUGH {
                return;
            }
            let known = self.recorder.known();
            // Mostly what is newest; at times what is long replaced.
            let session = match known.len() {
                0 => None,
                all if self.dice.once_in(5) => known.get(self.dice.below(all)),
                _ => known.last(),
            };
            let Some(session) = session else {
                self.create().await;
                continue;
            };
            match self.dice.below(20) {
                0..=3 => drop(self.open(&session.id).await),
                4..=7 => self.change_a_key(session, false).await,
                8..=10 => self.replace_all(session).await,
                11..=13 => self.count(&session.id).await,
                14 | 15 => {
                    self.change_a_key(session, true).await;
                    self.open(&session.id).await;
                }
                16 => self.create().await,
                17 | 18 => self.repeat().await,
                _ => self.destroy(session).await,
            }
        }
    }

    /// Lets the others go first, for a random while.
    async fn dawdle(&mut self) {
        if self.dice.once_in(4) {
            tokio::time::sleep(std::time::Duration::from_millis(1 + self.dice.below(4) as u64)).await;
        }
        for _ in 0..self.dice.below(30) {
            tokio::task::yield_now().await;
        }
    }

    async fn open(&mut self, id: &str) -> Option<Session> {
        let call = Call::Open(self.recorder.id(id));
        self.ask(call, Sending::Open(OpenRequest { id: id.to_owned(), no_renew: false }), false).await
    }

    async fn create(&mut self) {
        let (request, data) = &self.birth.call;
        let session = Session { data: Some(on_the_wire(data)), ..Default::default() };
        let request_id = self.birth.request_id.clone();
        let save = SaveRequest { session: Some(session), request_id, ..Default::default() };
        self.save(Call::Create(*request, data.clone()), save).await;
    }

    /// Brings a value of its own in under its own key, or under one that all share.
    async fn change_a_key(&mut self, session: &Session, rotate: bool) {
        let key = if self.dice.once_in(3) { "shared".to_owned() } else { format!("w{}", self.number) };
        let expected = self.dice.once_in(2);
        let request = self.recorder.request();
        let value = u32::from(request.0);
        let save = SaveRequest {
            session: Some(with(session, &Data::from([(key.clone(), value)]), expected)),
            changed_keys: vec![key.clone()],
            rotate,
            request_id: request_id(),
            ..Default::default()
        };
        let seen = self.recorder.seen(session);
        let change = Change::Key(key, value);
        let call = Call::Save(Save { request, id: seen.id, expected: expected.then_some(seen.etag), change, rotate });
        self.save(call, save).await;
    }

    /// Replaces the whole map by one that holds nothing but a value of its own.
    async fn replace_all(&mut self, session: &Session) {
        let request = self.recorder.request();
        self.whole(session, request, Data::from([("count".to_owned(), 0), ("whole".to_owned(), request.0.into())]))
            .await;
    }

    /// Reads, and writes what follows from it.
    async fn count(&mut self, id: &str) {
        let Some(session) = self.open(id).await else { return };
        let mut data = self.recorder.seen(&session).data;
        *data.entry("count".to_owned()).or_default() += 1;
        self.dawdle().await;
        let request = self.recorder.request();
        self.whole(&session, request, data).await;
    }

    async fn whole(&mut self, session: &Session, request: super::Request, data: Data) {
        let seen = self.recorder.seen(session);
        let save = SaveRequest {
            session: Some(with(session, &data, true)),
            replace_all: true,
            request_id: request_id(),
            ..Default::default()
        };
        let change = Change::Whole(data);
        let call = Call::Save(Save { request, id: seen.id, expected: Some(seen.etag), change, rotate: false });
        self.save(call, save).await;
    }

    async fn destroy(&mut self, session: &Session) {
        let seen = self.recorder.seen(session);
        let expected = self.dice.once_in(2);
        let etag = if expected { session.etag.clone() } else { String::new() };
        let sending = Sending::Destroy(DestroyRequest { id: session.id.clone(), etag });
        self.ask(Call::Destroy(seen.id, expected.then_some(seen.etag)), sending, false).await;
    }

    /// Sends something again that it has sent before.
    async fn repeat(&mut self) {
        if !self.earlier.is_empty() {
            let (call, save) = self.earlier[self.dice.below(self.earlier.len())].clone();
            self.ask(call, Sending::Save(save), true).await;
        }
    }

    /// Saves; mostly it insists on an answer, if there was none.
    async fn save(&mut self, call: Call, save: SaveRequest) {
        let save = Box::new(save);
        self.earlier.push((call.clone(), save.clone()));
        let mut answer = self.ask(call.clone(), Sending::Save(save.clone()), false).await;
        let mut attempts = 1;
        while answer.is_none() && attempts < 3 && self.dice.below(3) > 0 {
            self.dawdle().await;
            answer = self.ask(call.clone(), Sending::Save(save.clone()), true).await;
            attempts += 1;
        }
    }

    /// Asks, and gives the session if that is the answer and it comes to its caller: at times the caller gives up while it
    /// is under way, and at times it is lost. A lost one is written down all the same: it was said.
    async fn ask(&mut self, call: Call, sending: Sending, is_repeat: bool) -> Option<Session> {
        let (given_up, lost) = (self.dice.once_in(20), self.dice.once_in(12));
        let mut dice = self.dice.split(0);
        self.dice.throw();
        let mut stub = self.stub.clone();
        let event = self.recorder.asked(self.number, call);
        let answer = send(&mut stub, sending, is_repeat);
        let answer = if given_up {
            tokio::select! { biased; () = patience(&mut dice) => None, answer = answer => Some(answer) }
        } else {
            Some(answer.await)
        };
        let Some(answer) = answer else {
            self.recorder.fault("calls given up");
            return None;
        };
        let session = answer.as_ref().ok().and_then(Clone::clone);
        self.recorder.told(event, self.written(answer));
        if lost {
            self.recorder.fault("answers lost");
            return None;
        }
        session.filter(|session| !session.id.is_empty()).inspect(|session| self.recorder.tell_all(session.clone()))
    }

    /// An answer as the history writes it.
    fn written(&self, answer: Result<Option<Session>, Status>) -> Answer {
        match answer {
            Ok(None) => Answer::Done,
            Ok(Some(session)) if session.id.is_empty() => Answer::Nothing,
            Ok(Some(session)) => Answer::Session(self.recorder.seen(&session)),
            Err(status) => match status.code() {
                Code::Unavailable | Code::DeadlineExceeded => Answer::Unknown,
                _ => match &reason(&status)[..] {
                    "SESSION_NOT_FOUND" => Answer::NotFound,
                    "SESSION_CHANGED" => Answer::Changed,
                    "OUTCOME_UNKNOWN" => Answer::OutcomeUnknown,
                    strange => Answer::Strange(strange.to_owned()),
                },
            },
        }
    }
}

/// How long somebody waits who gives up.
async fn patience(dice: &mut Dice) {
    if dice.once_in(2) {
        tokio::time::sleep(std::time::Duration::from_millis(dice.below(4) as u64)).await;
    }
    for _ in 0..dice.below(20) {
        tokio::task::yield_now().await;
    }
}

/// The session if the answer has one: empty, if an Open found none.
async fn send(stub: &mut Stub, sending: Sending, is_repeat: bool) -> Result<Option<Session>, Status> {
    match sending {
        Sending::Open(open) => Ok(stub.open(open).await?.into_inner().session),
        Sending::Save(save) => stub.store(if is_repeat { again(&*save) } else { Sent::new(*save) }).await.map(Some),
        Sending::Destroy(destroy) => stub.destroy(destroy).await.map(|_| None),
    }
}

/// The session with these data, for the version that is known or for any.
fn with(session: &Session, data: &Data, expected: bool) -> Session {
    let etag = if expected { session.etag.clone() } else { "*".to_owned() };
    Session { id: session.id.clone(), etag, data: Some(on_the_wire(data)), ..Default::default() }
}
