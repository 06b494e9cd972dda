//! The rules: what Open, Save and Destroy mean. Pure decisions around one call to the store each, without a wire, Redis or a
//! clock. Randomness comes from outside.

mod repeats;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::Semaphore;
use tracing::{debug, warn};

use self::repeats::{follows, is_newest, mark, minted};
use crate::{
    log_limit::LogLimit,
    random::Random,
    session::{App, Data, Etag, Handle, Mark, Mint, Record, RequestId, Salt, Secret, SessionId, Time},
    store::{
        Attempt, Change, Claim, Create, Created, Destroyed, Expected, Found, Lifetime, RENEW_PART, Save, Saved, Store,
        StoreError,
    },
};

/// What callers may ask for at most, and what they get if they ask for nothing.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The idle timeout of a session whose caller named none.
    pub idle_timeout: Duration,
    /// The longest idle timeout; longer requests are cut.
    pub max_idle_timeout: Duration,
    /// The absolute lifetime.
    pub max_lifetime: Duration,
    /// The most bytes of data.
    pub max_session_bytes: usize,
}

/// A stored session, for the one who proved to hold it.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// Its data, unless the caller left it out.
    pub data: Option<Data>,
    /// Its version, unless the caller cannot know what is stored.
    pub etag: Option<Etag>,
    /// The rest of what is stored; its data is not to be read.
    pub record: Record,
    /// When it ends if it is not used again.
    pub expire_time: Time,
}

/// A Save as the caller asked for it, every field checked.
#[derive(Clone, Debug)]
pub struct SaveCommand {
    /// What to save.
    pub target: Target,
    /// The new subject; `None` keeps it.
    pub subject: Option<Box<str>>,
    /// The new idle timeout; `None` keeps it.
    pub idle_timeout: Option<Duration>,
    /// The absolute lifetime from now on; `None` is the server's where one begins, and otherwise keeps the deadline.
    pub lifetime: Option<Duration>,
    /// The caller's name for the operation.
    pub request_id: Option<RequestId>,
    /// Leave the data out of the answer.
    pub omit_data: bool,
}

impl SaveCommand {
    /// The session that it updates, if the id can be read.
    pub fn handle(&self) -> Option<Handle> {
        match &self.target {
            Target::Create(_) => None,
            Target::Update { id, .. } => id.as_ref().map(|id| id.handle),
        }
    }
}

/// What a Save is for.
#[derive(Clone, Debug)]
pub enum Target {
    /// A new session with this data.
    Create(Data),
    /// The session that the id names.
    Update {
        /// The id; `None` was malformed.
        id: Option<SessionId>,
        /// The version it is meant for.
        expected: Expected,
        /// What becomes of the data.
        change: Change,
        /// Whether it gets a new id.
        rotate: bool,
    },
}

/// Why a call was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Missing, expired, destroyed, another application's, or the id is wrong: one answer for all.
    #[error("there is no such session")]
    NotFound,
    /// Another version is stored.
    #[error("the session was changed since")]
    Changed,
    /// A repeat whose first outcome cannot be told.
    #[error("the outcome of the first attempt is unknown")]
    OutcomeUnknown,
    /// A different subject without a rotate.
    #[error("the subject changes only with a rotate")]
    SubjectNeedsRotate,
    /// The data, or what a merge makes of it, is too large.
    #[error("the session is too large")]
    TooLarge,
    /// The store could not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How many renewals may be under way at once. More are left to a later Open.
const RENEWALS: usize = 256;

/// For the renewals that failed otherwise than by an outage.
static FAILED_RENEWALS: LogLimit = LogLimit::new();

/// A Save, but for what it is for.
struct Operation<'a> {
    app: &'a App,
    mark: Mark,
    subject: Option<Box<str>>,
    idle_timeout: Option<Duration>,
    lifetime: Option<Duration>,
    omit_data: bool,
    attempt: Attempt,
}

/// Sessions, by the rules.
#[derive(Clone, Debug)]
pub struct Sessions<S> {
    store: S,
    limits: Limits,
    random: Arc<dyn Random>,
    renewals: Arc<Semaphore>,
    /// Where the names of unnamed updates come from: how they all begin, and how many there were.
    names: Arc<(u64, AtomicU64)>,
}

impl<S: Store> Sessions<S> {
    /// Sessions kept in this store.
    pub fn new(store: S, limits: Limits, random: Arc<dyn Random>) -> Self {
        let mut begin = [0; 8];
        random.fill(&mut begin);
        let names = Arc::new((u64::from_be_bytes(begin), AtomicU64::new(0)));
        Self { store, limits, random, renewals: Arc::new(Semaphore::new(RENEWALS)), names }
    }

    /// The limits in force.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Reads the session that the id names, if it lives, and renews it in the background when that is due.
    pub async fn open(
        &self,
        app: &App,
        id: SessionId,
        renew: bool,
        attempt: Attempt,
    ) -> Result<Option<Session>, Error> {
        let claim = claim(app, &id);
        let Some(found) = self.store.open(&claim, attempt).await? else { return Ok(None) };
        if renew && is_renewal_due(&found) {
            self.renew(claim);
        }
        Ok(Some(session(id, found, true, true)))
    }

    /// Creates or updates a session.
    pub async fn save(&self, app: &App, command: SaveCommand, attempt: Attempt) -> Result<Session, Error> {
        let request_id = command.request_id.unwrap_or_else(|| self.unnamed(&command.target));
        let operation = Operation {
            app,
            mark: mark(&command, &request_id),
            subject: command.subject,
            idle_timeout: command.idle_timeout.map(|asked| asked.min(self.limits.max_idle_timeout)),
            lifetime: command.lifetime.map(|asked| asked.min(self.limits.max_lifetime)),
            omit_data: command.omit_data,
            attempt,
        };
        match command.target {
            Target::Create(data) => self.create(operation, request_id.handle(app), data).await,
            Target::Update { id, expected, change, rotate } => {
                let id = id.ok_or(Error::NotFound)?;
                self.update(operation, id, expected, change, rotate).await
            }
        }
    }

    async fn create(&self, operation: Operation<'_>, handle: Handle, data: Data) -> Result<Session, Error> {
        let Operation { app, mark, subject, idle_timeout, lifetime, omit_data, attempt } = operation;
        let (secret, mint) = self.mint(app, handle, &mark);
        let create = Create {
            app: app.clone(),
            handle,
            mark: mark.short(),
            mint,
            subject: subject.unwrap_or_default(),
            data,
            idle_timeout: idle_timeout.unwrap_or(self.limits.idle_timeout),
            lifetime: lifetime.unwrap_or(self.limits.max_lifetime),
        };
        let (id, found) = match self.store.create(create, attempt).await? {
            Created::Stored(found) => (SessionId { handle, secret }, found),
            Created::Exists(found) => (minted(app, &found, &mark).ok_or(Error::OutcomeUnknown)?, found),
            Created::Unknown => return Err(Error::OutcomeUnknown),
            Created::Gone => return Err(Error::NotFound),
        };
        let knows = !omit_data || is_newest(&found.record, &mark);
        Ok(session(id, found, !omit_data, knows))
    }

    async fn update(
        &self,
        operation: Operation<'_>,
        id: SessionId,
        expected: Expected,
        change: Change,
        rotate: bool,
    ) -> Result<Session, Error> {
        let Operation { app, mark, subject, idle_timeout, lifetime, omit_data, attempt } = operation;
        let replaces = matches!(change, Change::Replace(_));
        let minted_now = rotate.then(|| self.mint(app, id.handle, &mark));
        let signs_in = rotate && subject.as_ref().is_some_and(|subject| !subject.is_empty());
        let save = Save {
            claim: claim(app, &id),
            mark: mark.short(),
            expected,
            change,
            rotate: minted_now.as_ref().map(|(_, mint)| *mint),
            subject,
            lifetime: if signs_in {
                // A login is a new session to the law: its lifetime begins anew (ASVS 7.2.4, NIST SP 800-63B).
                Some(Lifetime::Begin(lifetime.unwrap_or(self.limits.max_lifetime)))
            } else {
                lifetime.map(Lifetime::Shorten)
            },
            idle_timeout,
            max_bytes: self.limits.max_session_bytes,
            want_data: !omit_data,
        };
        let (id, found) = match self.store.save(save, attempt).await? {
            Saved::Stored(found) => {
                let secret = minted_now.map_or(id.secret, |(secret, _)| secret);
                (SessionId { handle: id.handle, secret }, found)
            }
            Saved::Repeat(found) => (id, found),
            Saved::Replaced { found, maybe_applied } => {
                let unproven = if maybe_applied { Error::OutcomeUnknown } else { Error::NotFound };
                let repeat = found.and_then(|found| Some((minted(app, &found, &mark)?, *found)));
                repeat.ok_or(unproven)?
            }
            Saved::Missing => return Err(Error::NotFound),
            Saved::Unknown => return Err(Error::OutcomeUnknown),
            Saved::SubjectNeedsRotate => return Err(Error::SubjectNeedsRotate),
            Saved::Conflict => return Err(Error::Changed),
            Saved::TooLarge => return Err(Error::TooLarge),
        };
        let newest = is_newest(&found.record, &mark);
        let knows = !omit_data || (newest && (replaces || follows(&found.record, expected)));
        Ok(session(id, found, !omit_data, knows))
    }

    /// A new secret for this operation.
    fn mint(&self, app: &App, handle: Handle, mark: &Mark) -> (Secret, Mint) {
        let salt = Salt(self.draw());
        let secret = Secret::mint(&salt, app, handle, mark);
        let hash = secret.hash(app, handle);
        (secret, Mint { salt, hash })
    }

    /// Ends the session that the id names. A malformed id (`None`) names none, and that is no error.
    pub async fn destroy(
        &self,
        app: &App,
        id: Option<SessionId>,
        expected: Expected,
        attempt: Attempt,
    ) -> Result<(), Error> {
        let Some(id) = id else { return Ok(()) };
        match self.store.destroy(&claim(app, &id), expected, attempt).await? {
            Destroyed::Gone => Ok(()),
            Destroyed::Conflict => Err(Error::Changed),
        }
    }

    /// In the background, on a budget of its own: a caller in a hurry must not starve its session of renewals.
    fn renew(&self, claim: Claim) {
        let Ok(permit) = Arc::clone(&self.renewals).try_acquire_owned() else { return };
        let store = self.store.clone();
        tokio::spawn(async move {
            match store.renew(&claim, Attempt::afresh()).await {
                Ok(()) => {}
                Err(StoreError::Unavailable(cause) | StoreError::WritesRefused(cause)) => {
                    debug!(handle = %claim.handle, %cause, "a renewal was left to a later Open");
                }
                Err(error) => {
                    if let Some(held_back) = FAILED_RENEWALS.pass() {
                        warn!(handle = %claim.handle, %error, held_back, "a session could not be renewed");
                    }
                }
            }
            drop(permit);
        });
    }

    /// A name for an operation that its caller gave none: no two are alike. It cannot be guessed where it guards what is minted; an
    /// update mints nothing, and its name costs nothing.
    fn unnamed(&self, target: &Target) -> RequestId {
        if !matches!(target, Target::Update { rotate: false, .. }) {
            return RequestId(self.draw());
        }
        let (begin, count) = &*self.names;
        let number = count.fetch_add(1, Ordering::Relaxed);
        RequestId((u128::from(*begin) << 64 | u128::from(number)).to_be_bytes())
    }

    fn draw<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.random.fill(&mut bytes);
        bytes
    }
}

fn claim(app: &App, id: &SessionId) -> Claim {
    Claim { app: app.clone(), handle: id.handle, hash: id.secret.hash(app, id.handle) }
}

/// What the caller is shown. The etag only if it knows what is stored: an etag is what lets it replace a whole map.
fn session(id: SessionId, found: Found, with_data: bool, knows: bool) -> Session {
    let Found { mut record, expire_time, .. } = found;
    let data = std::mem::take(&mut record.data);
    Session { id, data: with_data.then_some(data), etag: knows.then(|| record.etag()), record, expire_time }
}

/// Whether more than a tenth of the life that a renewal would give is used up. The store decides again when it renews.
fn is_renewal_due(found: &Found) -> bool {
    let renewed = found.record.expiry(found.now);
    renewed.since(found.expire_time) * RENEW_PART > renewed.since(found.now)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU8, Ordering},
        time::Instant,
    };

    use super::*;
    use crate::{
        clock::ManualClock,
        session::{Entry, KeyChange},
        store::memory::MemoryStore,
    };

    /// Chance that is none: 1, 2, 3 …
    #[derive(Debug, Default)]
    struct Counting(AtomicU8);

    impl Random for Counting {
        fn fill(&self, buffer: &mut [u8]) {
            buffer.fill(self.0.fetch_add(1, Ordering::Relaxed) + 1);
        }
    }

    const HOUR: Duration = Duration::from_secs(3600);

    fn sessions() -> (Sessions<MemoryStore>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new(Time(1_800_000_000_000)));
        let limits =
            Limits { idle_timeout: HOUR, max_idle_timeout: 2 * HOUR, max_lifetime: 8 * HOUR, max_session_bytes: 1024 };
        let store = MemoryStore::new(Arc::clone(&clock) as _, 1 << 20);
        (Sessions::new(store, limits, Arc::new(Counting::default())), clock)
    }

    fn now() -> Attempt {
        let since = Instant::now();
        Attempt { since, until: since + HOUR }
    }

    fn data(key: &str, value: &str) -> Data {
        Data::from_entries([Entry { key: key.as_bytes(), value: value.as_bytes() }])
    }

    fn create(request_id: u8, data: Data) -> SaveCommand {
        let request_id = Some(RequestId([request_id; 16]));
        SaveCommand {
            target: Target::Create(data),
            subject: None,
            idle_timeout: None,
            lifetime: None,
            request_id,
            omit_data: false,
        }
    }

    fn update(session: &Session, request_id: u8, change: Change, rotate: bool) -> SaveCommand {
        let expected = session.etag.map_or(Expected::Any, Expected::Etag);
        let target = Target::Update { id: Some(session.id.clone()), expected, change, rotate };
        SaveCommand { target, ..create(request_id, Data::default()) }
    }

    #[tokio::test]
    async fn an_idle_timeout_above_the_ceiling_is_cut() {
        let (sessions, _) = sessions();
        let app = App::unnamed();
        let long = SaveCommand { idle_timeout: Some(9 * HOUR), ..create(1, Data::default()) };
        assert_eq!(sessions.save(&app, long, now()).await.unwrap().record.idle_timeout, 2 * HOUR);
        let unnamed = sessions.save(&app, create(2, Data::default()), now()).await.unwrap();
        assert_eq!(unnamed.record.idle_timeout, HOUR);
    }

    #[tokio::test]
    async fn a_login_begins_a_new_lifetime_and_any_other_rotate_keeps_it() {
        let (sessions, clock) = sessions();
        let app = App::unnamed();
        let first = sessions.save(&app, create(1, Data::default()), now()).await.unwrap();
        clock.advance(HOUR / 2);
        let rotated = sessions.save(&app, update(&first, 2, Change::Keep, true), now()).await.unwrap();
        assert_eq!(rotated.record.deadline, first.record.deadline);
        let login = SaveCommand { subject: Some("ada".into()), ..update(&rotated, 3, Change::Keep, true) };
        let signed_in = sessions.save(&app, login, now()).await.unwrap();
        assert_eq!(signed_in.record.deadline, first.record.deadline.after(HOUR / 2));
        let logout = SaveCommand { subject: Some("".into()), ..update(&signed_in, 4, Change::Keep, true) };
        let signed_out = sessions.save(&app, logout, now()).await.unwrap();
        assert_eq!(signed_out.record.deadline, signed_in.record.deadline);
        assert_eq!(&*signed_out.record.subject, "");
    }

    #[tokio::test]
    async fn a_repeated_create_or_rotate_is_answered_with_the_same_id_for_a_minute() {
        let (sessions, clock) = sessions();
        let app = App::unnamed();
        let first = sessions.save(&app, create(1, data("a", "1")), now()).await.unwrap();
        let again = sessions.save(&app, create(1, data("a", "1")), now()).await.unwrap();
        assert!(again.id == first.id && again.etag == first.etag);
        let other = sessions.save(&app, create(1, data("a", "2")), now()).await;
        assert!(matches!(other, Err(Error::OutcomeUnknown)), "another visitor's content, the same request id");

        let rotate = update(&first, 2, Change::Keep, true);
        let rotated = sessions.save(&app, rotate.clone(), now()).await.unwrap();
        assert!(rotated.id != first.id && rotated.id.handle == first.id.handle);
        clock.advance(Duration::from_secs(60));
        assert!(sessions.save(&app, rotate.clone(), now()).await.unwrap().id == rotated.id);
        clock.advance(Duration::from_millis(1));
        assert!(matches!(sessions.save(&app, rotate, now()).await, Err(Error::OutcomeUnknown)));
    }

    #[tokio::test]
    async fn without_the_data_only_who_knows_what_is_stored_gets_an_etag() {
        let (sessions, _) = sessions();
        let app = App::unnamed();
        let blind = |command| SaveCommand { omit_data: true, ..command };
        let change = |key: &str| {
            let entry = Some(data(key, "1").into_bytes());
            Change::Merge(vec![KeyChange { key: key.as_bytes().to_vec().into(), entry }])
        };
        let first = sessions.save(&app, blind(create(1, data("a", "1"))), now()).await.unwrap();
        assert!(first.etag.is_some() && first.data.is_none(), "who creates knows");
        let mine = blind(update(&first, 2, change("b"), false));
        let second = sessions.save(&app, mine.clone(), now()).await.unwrap();
        assert!(second.etag.is_some(), "the version was the one seen");
        let stale = sessions.save(&app, blind(update(&first, 3, change("c"), false)), now()).await.unwrap();
        assert!(stale.etag.is_none(), "another one had saved in between");
        let repeat = sessions.save(&app, mine, now()).await.unwrap();
        assert!(repeat.etag.is_none(), "and a repeat must not overwrite it");
        let whole = Session { etag: None, ..first };
        let whole = sessions.save(&app, blind(update(&whole, 4, Change::Replace(data("z", "1")), false)), now()).await;
        assert!(whole.unwrap().etag.is_some(), "who replaces everything knows");
    }

    #[tokio::test]
    async fn renewal_is_due_when_a_tenth_of_the_life_is_used() {
        let (sessions, clock) = sessions();
        let app = App::unnamed();
        let first = sessions.save(&app, create(1, Data::default()), now()).await.unwrap();
        let opened = async |renew| {
            let session = sessions.open(&app, first.id.clone(), renew, now()).await.unwrap().expect("it lives");
            // A renewal runs beside: let it.
            tokio::task::yield_now().await;
            session.expire_time
        };
        clock.advance(HOUR / 10);
        assert_eq!(opened(true).await, first.expire_time);
        assert_eq!(opened(true).await, first.expire_time, "a tenth is not more than a tenth");
        clock.advance(Duration::from_millis(1));
        assert_eq!(opened(false).await, first.expire_time);
        assert_eq!(opened(false).await, first.expire_time, "who only looks renews nothing");
        assert_eq!(opened(true).await, first.expire_time, "told before the renewal");
        let renewed = first.expire_time.after(HOUR / 10 + Duration::from_millis(1));
        assert_eq!(opened(true).await, renewed);
    }
}
