//! What `sessiond::store` promises, proven sentence by sentence on every store. Here are the words in which the sentences
//! are written and the one list of their names; the sentences themselves are in:
//!
//! - [`life`]: create, open, renew, destroy, and time (P2, P3, P4, P6)
//! - [`saves`]: what a Save changes and when it is refused (P1, P3)
//! - [`repeats`]: how an operation that comes twice is answered (P5)
//! - [`races`]: the same under contention, counted (P1, P2, P5)
//! - [`behind`]: what only Redis can get wrong, seen behind the scenes
//!
//! The file is longer than most, as the list is in it and the words are many and small.
//!
//! [`store_tests!`](crate::store_tests) makes tests of them for a [`Host`]; a new store needs a host and one line.

pub mod behind;
mod hosts;
pub mod life;
pub mod races;
pub mod repeats;
pub mod saves;

use std::time::{Duration, Instant};

use sessiond::{
    session::{App, Data, Entry, Etag, Handle, KeyChange, Mint, Salt, SecretHash, ShortMark},
    store::{Attempt, Change, Claim, Create, Created, Destroyed, Expected, Found, Save, Saved, Store},
};
use uuid::Uuid;

pub use hosts::{MemoryHost, RedisHost, redis_pass, redis_time};

/// The one list of the sentences: hands their paths under `store_suite` to the macro named, behind its first argument.
#[macro_export]
macro_rules! store_sentences {
    ($then:ident, $host:ty) => {
        $then! { $host,
            life::what_is_created_is_what_opens,
            life::p3_nothing_opens_but_the_right_secret_for_the_right_application,
            life::p3_who_proves_nothing_changes_nothing,
            life::p4_opening_writes_nothing,
            life::p2_a_destroyed_session_stays_destroyed,
            life::a_destroy_may_name_the_version_it_is_meant_for,
            life::p2_a_tombstone_blocks_a_create_that_was_held_up,
            life::p6_a_session_ends_when_it_is_not_used_for_its_idle_timeout,
            life::p6_a_session_ends_at_its_absolute_deadline_whatever_the_use,
            life::p6_a_renewal_extends_by_the_idle_timeout,
            life::p6_a_renewal_obeys_a_shortening_that_overtook_it,
            life::p2_a_renewal_never_revives,
            life::p6_a_renewal_writes_at_most_once_in_a_tenth_of_the_life,
            life::p6_a_save_renews_and_takes_a_new_idle_timeout_at_once,
            life::p6_a_login_starts_a_new_absolute_lifetime_and_no_other_save_does,
            life::nothing_is_written_after_the_attempts_end,
            life::a_store_that_is_there_answers_a_ping,
            saves::p1_a_save_adds_one_to_the_version_and_its_mark_to_the_etag,
            saves::a_save_keeps_or_replaces_the_data,
            saves::a_merge_changes_the_named_keys_and_nothing_else,
            saves::a_merge_that_grows_too_large_writes_nothing,
            saves::p1_a_stale_version_conflicts_and_writes_nothing,
            saves::p1_a_save_that_keeps_the_data_goes_by_no_version,
            saves::p1_a_merge_goes_by_no_version,
            saves::an_unreadable_version_matches_none,
            saves::a_subject_changes_only_with_a_rotate,
            saves::p3_a_rotated_session_opens_with_the_new_secret_alone,
            saves::a_save_never_creates,
            saves::the_answer_holds_the_data_only_if_wanted,
            saves::the_first_reason_that_fits_is_the_answer,
            repeats::p5_a_repeat_is_recognised_up_to_eight_saves_back,
            repeats::p5_a_young_mark_is_kept_beside_the_eight,
            repeats::p5_a_repeat_sees_the_session_as_it_stands_and_renews_nothing,
            repeats::p5_the_mark_of_the_create_is_one_of_the_eight,
            repeats::p5_the_same_mark_on_another_session_is_another_operation,
            repeats::p5_a_save_of_any_version_is_unknown_where_the_ring_does_not_reach_back,
            repeats::p5_a_version_eight_behind_is_pinned_and_nine_behind_is_not,
            repeats::p5_a_version_of_another_timeline_is_not_pinned,
            repeats::p5_a_create_that_meets_its_handle_is_told_so_and_writes_nothing,
            repeats::p5_the_repeat_of_a_rotate_gets_what_proves_it,
            repeats::p3_the_replaced_secret_sees_nothing_but_for_a_rotate,
            repeats::p5_the_replaced_secret_is_told_whether_its_save_may_have_been_applied,
            repeats::p2_the_replaced_secret_destroys_for_a_while_unless_it_names_a_version,
            repeats::p3_a_secret_replaced_twice_is_a_wrong_one,
            races::p1_parallel_appends_by_version_are_all_there,
            races::p1_parallel_merges_of_different_keys_all_succeed_at_once,
            races::p2_no_save_brings_back_what_is_destroyed_beside_it,
            races::p1_a_save_beside_a_rotate_is_in_the_session_or_was_refused,
            races::p2_no_renewal_brings_back_what_is_destroyed_beside_it,
            races::p5_creates_repeated_in_parallel_make_one_session_with_one_secret,
            races::p5_saves_repeated_in_parallel_are_applied_once,
        }
    };
}

/// What only Redis can get wrong: the same for the sentences of [`behind`].
#[macro_export]
macro_rules! redis_sentences {
    ($then:ident, $host:ty) => {
        $then! { $host,
            behind::p6_a_record_without_an_end_is_not_alive,
            behind::p3_a_record_under_another_handle_opens_nothing,
            behind::a_foreign_value_under_a_key_is_an_error_and_no_session,
            behind::a_flushed_script_cache_is_not_noticed,
            behind::p2_a_command_that_a_frozen_redis_delivers_late_writes_nothing,
            behind::p8_neither_secret_nor_request_is_needed_to_store_a_session,
        }
    };
}

/// Makes a test of every sentence that is handed to it.
#[macro_export]
macro_rules! store_tests {
    ($host:ty, $($room:ident :: $sentence:ident,)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $sentence() {
            $crate::store_suite::$room::$sentence(<$host as $crate::store_suite::Host>::start().await).await;
        })*
    };
}

/// Makes a list of the sentences that are handed to it: each one's name, and how to begin it.
#[macro_export]
macro_rules! store_list {
    ($host:ty, $($room:ident :: $sentence:ident,)*) => {
        [$((
            stringify!($sentence),
            (|| Box::pin(async {
                $crate::store_suite::$room::$sentence(<$host as $crate::store_suite::Host>::start().await).await;
            })) as $crate::store_suite::Begin,
        ),)*]
    };
}

/// Begins one sentence of the suite.
pub type Begin = fn() -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// A store to test, with its time and a look behind its scenes.
pub trait Host: Send + Sync + Sized + 'static {
    /// The store.
    type Store: Store;

    /// Starts it, empty.
    fn start() -> impl Future<Output = Self> + Send;

    /// The store, by connections of its own: two of them meet only in what they keep.
    fn store(&self) -> Self::Store;

    /// Lets this much time pass on the store's clock.
    fn pass(&self, span: Duration) -> impl Future<Output = ()> + Send;

    /// Makes [`REPEAT_WINDOW`](sessiond::store::REPEAT_WINDOW) be over for the session's last mint.
    fn outlive_window(&self, claim: &Claim) -> impl Future<Output = ()> + Send;

    /// Makes [`TOMBSTONE`](sessiond::store::TOMBSTONE) be over for the session.
    fn outlive_tombstone(&self, claim: &Claim) -> impl Future<Output = ()> + Send;

    /// Makes the session look as if others had just saved it once with each of these marks, changing nothing. For more Saves
    /// than a test has time for; the ring has room for all of them.
    fn others_saved(&self, claim: &Claim, marks: &[ShortMark]) -> impl Future<Output = ()> + Send;

    /// How many sessions and tombstones are kept.
    fn entries(&self) -> impl Future<Output = usize> + Send;
}

/// The longest that one call may take.
const BUDGET: Duration = Duration::from_secs(10);

/// An operation that comes to the server now.
pub fn attempt() -> Attempt {
    attempt_since(Duration::ZERO)
}

/// An operation that may have come to the server as early as this long ago.
pub fn attempt_since(ago: Duration) -> Attempt {
    let now = Instant::now();
    Attempt { since: now.checked_sub(ago).expect("the machine has been up for so long"), until: now + BUDGET }
}

/// An application that no other test has.
pub fn any_app() -> App {
    App::new(&Uuid::new_v4().simple().to_string()).expect("hexadecimal digits are allowed")
}

/// A handle that no other session has.
pub fn any_handle() -> Handle {
    Handle(Uuid::new_v4())
}

/// A mark that no other operation has.
pub fn any_mark() -> ShortMark {
    let [mark @ .., _, _, _, _, _, _, _, _] = Uuid::new_v4().into_bytes();
    ShortMark(mark)
}

/// A secret's hash that no other secret has.
pub fn any_hash() -> SecretHash {
    let halves = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
    SecretHash(halves.try_into().expect("twice 16 is 32"))
}

/// A secret that no other session has.
pub fn any_mint() -> Mint {
    let hash = any_hash();
    Mint { salt: Salt(any_hash().0), hash }
}

/// Data of these keys and values.
pub fn data(entries: &[(&str, &str)]) -> Data {
    Data::from_entries(entries.iter().map(|(key, value)| Entry { key: key.as_bytes(), value: value.as_bytes() }))
}

/// A key that gets a value, or is removed.
pub fn key_change(key: &str, value: Option<&str>) -> KeyChange {
    KeyChange { key: key.to_owned().into(), entry: value.map(|value| data(&[(key, value)]).into_bytes()) }
}

/// The value of a key, if it is there.
pub fn value<'a>(data: &'a Data, key: &str) -> Option<&'a str> {
    let (entry, _) = data.entries().find(|(entry, _)| entry.key == key.as_bytes())?;
    Some(std::str::from_utf8(entry.value).expect("the tests' values are text"))
}

/// An hour: longer than any test.
pub const HOUR: Duration = Duration::from_secs(3600);

/// A day: longer than any test.
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// A session to be, of an application of its own: an hour idle, a day at most.
pub fn any_create() -> Create {
    Create {
        app: any_app(),
        handle: any_handle(),
        mark: any_mark(),
        mint: any_mint(),
        subject: "".into(),
        data: data(&[("cart", "tea")]),
        idle_timeout: HOUR,
        lifetime: DAY,
    }
}

/// Who shows a secret for a session, with the store that they show it to.
#[derive(Clone, Debug)]
pub struct Visitor<S> {
    /// The store.
    pub store: S,
    /// What they show.
    pub claim: Claim,
}

impl<S: Store> Visitor<S> {
    /// Creates a session, and holds it.
    pub async fn create(store: S, create: Create) -> Self {
        let claim = Claim { app: create.app.clone(), handle: create.handle, hash: create.mint.hash };
        let created = store.create(create, attempt()).await.expect("the store answers");
        assert!(matches!(created, Created::Stored(_)), "a new session is stored, not {created:?}");
        Self { store, claim }
    }

    /// Creates any session, and holds it.
    pub async fn new(store: S) -> Self {
        Self::create(store, any_create()).await
    }

    /// The same session for one who shows another secret.
    pub fn showing(&self, hash: SecretHash) -> Self {
        let store = self.store.clone();
        Self { store, claim: Claim { hash, ..self.claim.clone() } }
    }

    /// What opens.
    pub async fn look(&self) -> Option<Found> {
        self.store.open(&self.claim, attempt()).await.expect("the store answers")
    }

    /// The session, which lives.
    pub async fn there(&self) -> Found {
        self.look().await.expect("the session lives")
    }

    /// The session's version.
    pub async fn etag(&self) -> Etag {
        self.there().await.record.etag()
    }

    /// A Save of any version that changes no data.
    pub fn keep(&self) -> Save {
        Save {
            claim: self.claim.clone(),
            mark: any_mark(),
            expected: Expected::Any,
            change: Change::Keep,
            rotate: None,
            subject: None,
            lifetime: None,
            idle_timeout: None,
            max_bytes: 1 << 16,
            want_data: true,
        }
    }

    /// A Save of the whole map for one version.
    pub fn replace(&self, etag: Etag, data: Data) -> Save {
        Save { expected: Expected::Etag(etag), change: Change::Replace(data), ..self.keep() }
    }

    /// A Save of these keys.
    pub fn merge(&self, changes: &[(&str, Option<&str>)]) -> Save {
        let changes = changes.iter().map(|(key, value)| key_change(key, *value)).collect();
        Save { change: Change::Merge(changes), ..self.keep() }
    }

    /// A Save that gives the session a new secret.
    pub fn rotate(&self) -> Save {
        Save { rotate: Some(any_mint()), ..self.keep() }
    }

    /// Saves.
    pub async fn save(&self, save: Save) -> Saved {
        self.store.save(save, attempt()).await.expect("the store answers")
    }

    /// Saves something that must be stored.
    pub async fn stored(&self, save: Save) -> Found {
        match self.save(save).await {
            Saved::Stored(found) => found,
            other => panic!("it is stored, not {other:?}"),
        }
    }

    /// Rotates, and holds the session by its new secret.
    pub async fn rotated(&self, save: Save) -> Self {
        let hash = save.rotate.expect("a rotate").hash;
        self.stored(save).await;
        self.showing(hash)
    }

    /// Lets others save this often, each the version that the one before it made.
    pub async fn others_save(&self, times: usize) {
        for _ in 0..times {
            let expected = Expected::Etag(self.etag().await);
            self.stored(Save { expected, ..self.keep() }).await;
        }
    }

    /// Destroys.
    pub async fn destroy(&self, expected: Expected) -> Destroyed {
        self.store.destroy(&self.claim, expected, attempt()).await.expect("the store answers")
    }

    /// Renews.
    pub async fn renew(&self) {
        self.store.renew(&self.claim, attempt()).await.expect("the store answers");
    }
}

/// Asserts that a value is of a shape.
#[macro_export]
macro_rules! assert_is {
    ($value:expr, $shape:pat $(if $condition:expr)?, $($why:tt)+) => {{
        let value = $value;
        match &value {
            $shape $(if $condition)? => {}
            _ => panic!("{}, not {value:?}", format_args!($($why)+)),
        }
    }};
}
