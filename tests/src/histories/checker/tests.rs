//! Histories written by hand: the good ones pass, and each bad one is caught.

use super::{super::*, *};

/// What worker 0 to 3 did, from one moment to another.
fn event(worker: usize, asked: u64, told: u64, call: Call, answer: Answer) -> Event {
    Event { worker, asked: Duration::from_millis(asked), told: Duration::from_millis(told), call, answer }
}

fn data(map: &[(&str, u32)]) -> Data {
    map.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect()
}

fn seen(id: u8, etag: u8, map: &[(&str, u32)]) -> Answer {
    Answer::Session(Seen { id: Id(id), etag: Etag(etag), data: data(map) })
}

fn open(id: u8) -> Call {
    Call::Open(Id(id))
}

fn create() -> Call {
    Call::Create(Request(0), data(&[("n", 0)]))
}

fn whole(request: u8, id: u8, etag: u8, map: &[(&str, u32)]) -> Call {
    let (request, id, expected) = (Request(request), Id(id), Some(Etag(etag)));
    Call::Save(Save { request, id, expected, change: Change::Whole(data(map)), rotate: false })
}

fn key(request: u8, id: u8, key: &str, value: u32, rotate: bool) -> Call {
    let (request, id, change) = (Request(request), Id(id), Change::Key(key.to_owned(), value));
    Call::Save(Save { request, id, expected: None, change, rotate })
}

fn destroy(id: u8, etag: Option<u8>) -> Call {
    Call::Destroy(Id(id), etag.map(Etag))
}

/// What follows the session's birth: `id-0`, `etag-0`, `{n: 0}`, until 1 ms.
fn after_birth(events: impl IntoIterator<Item = Event>) -> History {
    let mut all = vec![event(0, 0, 1, create(), seen(0, 0, &[("n", 0)]))];
    all.extend(events);
    History(all)
}

#[track_caller]
fn good(events: impl IntoIterator<Item = Event>) {
    let history = after_birth(events);
    assert_eq!(judge(&history), Verdict::Linearizable, "\n{history}");
}

#[track_caller]
fn bad(events: impl IntoIterator<Item = Event>) {
    let history = after_birth(events);
    assert!(matches!(judge(&history), Verdict::Violation(_)), "\n{history}");
}

#[test]
fn a_life_of_one_call_after_the_other_passes() {
    good([
        event(0, 2, 3, open(0), seen(0, 0, &[("n", 0)])),
        event(1, 4, 5, whole(1, 0, 0, &[("n", 1)]), seen(0, 1, &[("n", 1)])),
        event(1, 6, 7, whole(2, 0, 0, &[("n", 2)]), Answer::Changed),
        event(0, 8, 9, key(3, 0, "a", 3, true), seen(1, 2, &[("n", 1), ("a", 3)])),
        event(0, 10, 11, open(0), Answer::Nothing),
        event(0, 12, 13, key(4, 0, "a", 4, false), Answer::NotFound),
        event(2, 14, 15, destroy(1, Some(1)), Answer::Changed),
        event(2, 16, 17, destroy(1, Some(2)), Answer::Done),
        event(2, 18, 19, open(1), Answer::Nothing),
        event(2, 20, 21, create(), Answer::NotFound),
    ]);
}

#[test]
fn calls_that_overlap_may_come_in_any_order() {
    let saves = |first: Event| {
        [
            first,
            event(1, 2, 9, key(1, 0, "a", 1, false), seen(0, 2, &[("n", 0), ("a", 1), ("b", 2)])),
            event(2, 3, 8, key(2, 0, "b", 2, false), seen(0, 1, &[("n", 0), ("b", 2)])),
        ]
    };
    good(saves(event(0, 2, 9, open(0), seen(0, 0, &[("n", 0)]))));
    good(saves(event(0, 2, 9, open(0), seen(0, 1, &[("n", 0), ("b", 2)]))));
    good(saves(event(0, 2, 9, open(0), seen(0, 2, &[("n", 0), ("a", 1), ("b", 2)]))));
    bad(saves(event(0, 2, 9, open(0), seen(0, 3, &[("n", 0), ("a", 1)]))));
}

#[test]
fn what_nobody_knows_of_may_be_applied_late_or_never() {
    let unknown = event(1, 2, 0, key(1, 0, "a", 1, false), Answer::Unknown);
    let not_yet = event(0, 3, 4, open(0), seen(0, 0, &[("n", 0)]));
    let applied = event(0, 5, 6, open(0), seen(0, 1, &[("n", 0), ("a", 1)]));
    good([unknown.clone(), not_yet.clone()]);
    good([unknown.clone(), not_yet.clone(), applied.clone()]);
    bad([
        unknown,
        applied.clone(),
        Event { asked: Duration::from_millis(7), told: Duration::from_millis(8), ..not_yet },
    ]);
    bad([applied]);
}

#[test]
fn a_lost_update_is_caught() {
    // Both had read the same, and both are told that theirs is stored.
    bad([
        event(1, 2, 9, whole(1, 0, 0, &[("n", 1)]), seen(0, 1, &[("n", 1)])),
        event(2, 2, 9, whole(2, 0, 0, &[("n", 1), ("b", 1)]), seen(0, 2, &[("n", 1), ("b", 1)])),
    ]);
    // One of two keys is not there.
    bad([
        event(1, 2, 9, key(1, 0, "a", 1, false), seen(0, 1, &[("n", 0), ("a", 1)])),
        event(2, 2, 9, key(2, 0, "b", 2, false), seen(0, 2, &[("n", 0), ("b", 2)])),
    ]);
    bad([
        event(1, 2, 3, key(1, 0, "a", 1, false), seen(0, 1, &[("n", 0), ("a", 1)])),
        event(2, 4, 5, open(0), seen(0, 2, &[("n", 0)])),
    ]);
}

#[test]
fn a_revived_session_is_caught() {
    let end = event(0, 2, 3, destroy(0, None), Answer::Done);
    bad([end.clone(), event(1, 4, 5, open(0), seen(0, 0, &[("n", 0)]))]);
    bad([end.clone(), event(1, 4, 5, create(), seen(1, 1, &[("n", 0)]))]);
    bad([end.clone(), event(1, 4, 5, key(1, 0, "a", 1, false), seen(0, 1, &[("n", 0), ("a", 1)]))]);
    // A Save beside the Destroy may win, but then the session is dead all the same.
    let beside = event(1, 1, 9, key(1, 0, "a", 1, false), seen(0, 1, &[("n", 0), ("a", 1)]));
    good([beside.clone(), end.clone(), event(2, 10, 11, open(0), Answer::Nothing)]);
    bad([beside, end, event(2, 10, 11, open(0), seen(0, 1, &[("n", 0), ("a", 1)]))]);
    // Nobody knows whether it was destroyed; but once it was, it stays so.
    let unknown = event(0, 2, 0, destroy(0, None), Answer::Unknown);
    let (there, gone) = (seen(0, 0, &[("n", 0)]), Answer::Nothing);
    good([unknown.clone(), event(1, 4, 5, open(0), there.clone()), event(1, 6, 7, open(0), gone.clone())]);
    bad([unknown, event(1, 4, 5, open(0), gone), event(1, 6, 7, open(0), there)]);
}

#[test]
fn a_request_applied_twice_is_caught() {
    let (first, other) = (key(1, 0, "a", 1, false), key(2, 0, "a", 2, false));
    let both = |answer| {
        [
            event(1, 2, 3, first.clone(), seen(0, 1, &[("n", 0), ("a", 1)])),
            event(2, 4, 5, other.clone(), seen(0, 2, &[("n", 0), ("a", 2)])),
            event(1, 6, 7, first.clone(), answer),
        ]
    };
    good(both(seen(0, 2, &[("n", 0), ("a", 2)])));
    bad(both(seen(0, 3, &[("n", 0), ("a", 1)])));
    // Though the data are the same, the version is another.
    let twice = |etag| {
        [
            event(1, 2, 3, first.clone(), seen(0, 1, &[("n", 0), ("a", 1)])),
            event(1, 4, 5, first.clone(), seen(0, etag, &[("n", 0), ("a", 1)])),
        ]
    };
    good(twice(1));
    bad(twice(2));
    // And so it is where nobody knows of the first sending, but somebody saw what it did.
    let unknown = event(1, 2, 0, first.clone(), Answer::Unknown);
    let saw = event(2, 4, 5, open(0), seen(0, 1, &[("n", 0), ("a", 1)]));
    bad([unknown, saw, event(1, 6, 7, first.clone(), seen(0, 2, &[("n", 0), ("a", 1)]))]);
    // One create, two sessions.
    bad([event(1, 2, 3, create(), seen(1, 1, &[("n", 0)]))]);
}

#[test]
fn a_stale_read_is_caught() {
    let save = event(1, 2, 3, whole(1, 0, 0, &[("n", 1)]), seen(0, 1, &[("n", 1)]));
    bad([save.clone(), event(2, 4, 5, open(0), seen(0, 0, &[("n", 0)]))]);
    // One who saw it was before one who did not.
    let save = Event { told: Duration::from_millis(20), ..save };
    let (new, old) = (seen(0, 1, &[("n", 1)]), seen(0, 0, &[("n", 0)]));
    good([save.clone(), event(2, 4, 5, open(0), old.clone()), event(3, 6, 7, open(0), new.clone())]);
    bad([save, event(2, 4, 5, open(0), new), event(3, 6, 7, open(0), old)]);
}

#[test]
fn an_id_that_was_replaced_opens_nothing_and_shows_nothing() {
    let rotate = key(1, 0, "a", 1, true);
    let rotated = event(1, 2, 3, rotate.clone(), seen(1, 1, &[("n", 0), ("a", 1)]));
    let then = |call, answer| [rotated.clone(), event(1, 4, 5, call, answer)];
    good(then(rotate.clone(), seen(1, 1, &[("n", 0), ("a", 1)])));
    bad(then(rotate.clone(), seen(2, 2, &[("n", 0), ("a", 1)])));
    bad(then(rotate, Answer::NotFound));
    good(then(open(0), Answer::Nothing));
    bad(then(open(0), seen(0, 1, &[("n", 0), ("a", 1)])));
    bad(then(key(2, 0, "b", 2, false), seen(0, 2, &[("n", 0), ("a", 1), ("b", 2)])));
    good(then(create(), Answer::OutcomeUnknown));
    bad(then(create(), seen(1, 1, &[("n", 0), ("a", 1)])));
    // But for a logout.
    let dead = event(2, 6, 7, open(1), Answer::Nothing);
    good(then(destroy(0, None), Answer::Done).into_iter().chain([dead.clone()]));
    bad(then(destroy(0, Some(0)), Answer::Changed).into_iter().chain([dead]));
}

/// The service asked Redis twice, as the first answer was lost; and in between there was another id, or none.
#[test]
fn who_is_told_that_nobody_knows_may_have_been_applied_just_before() {
    let save = key(1, 0, "a", 1, false);
    let rotated = |asked| event(2, asked, 8, key(2, 0, "b", 2, true), seen(1, 1, &[("n", 0), ("a", 1), ("b", 2)]));
    good([event(1, 2, 9, save.clone(), Answer::OutcomeUnknown), rotated(3)]);
    bad([event(1, 2, 3, save.clone(), Answer::OutcomeUnknown), rotated(4)]);
    let saw = event(2, 3, 4, open(0), seen(0, 1, &[("n", 0), ("a", 1)]));
    let between = event(2, 3, 4, key(3, 0, "b", 3, false), seen(0, 1, &[("n", 0), ("a", 1), ("b", 3)]));
    good([event(1, 2, 9, save.clone(), seen(0, 1, &[("n", 0), ("a", 1), ("b", 3)])), between.clone()]);
    bad([event(1, 5, 9, save.clone(), seen(0, 1, &[("n", 0), ("a", 1), ("b", 3)])), between]);
    let ended = event(2, 5, 6, destroy(0, None), Answer::Done);
    good([event(1, 2, 9, save.clone(), Answer::NotFound), saw.clone(), ended]);
    bad([event(1, 2, 9, save, Answer::NotFound), saw]);
}

#[test]
fn a_refusal_that_is_not_due_is_caught() {
    bad([event(1, 2, 3, whole(1, 0, 0, &[("n", 1)]), Answer::Changed)]);
    bad([event(1, 2, 3, key(1, 0, "a", 1, false), Answer::Changed)]);
    bad([event(1, 2, 3, key(1, 0, "a", 1, false), Answer::NotFound)]);
    bad([event(1, 2, 3, key(1, 0, "a", 1, false), Answer::OutcomeUnknown)]);
    bad([event(1, 2, 3, create(), Answer::OutcomeUnknown)]);
    bad([event(1, 2, 3, open(0), Answer::Nothing)]);
    bad([event(1, 2, 3, destroy(0, Some(0)), Answer::Changed)]);
    bad([event(1, 2, 3, open(0), Answer::Strange("INTERNAL".to_owned()))]);
    // Told changed, and applied after all.
    let refused = event(2, 4, 5, whole(2, 0, 0, &[("n", 7)]), Answer::Changed);
    let other = event(1, 2, 3, whole(1, 0, 0, &[("n", 1)]), seen(0, 1, &[("n", 1)]));
    good([other.clone(), refused.clone()]);
    bad([other, refused, event(3, 6, 7, open(0), seen(0, 2, &[("n", 7)]))]);
}

#[test]
fn a_search_that_is_too_large_says_so() {
    // Forty Saves of which nobody knows, and something that none of them explains.
    let unknown = (0..40).map(|n| event(1, 2, 0, key(n + 1, 0, "a", n.into(), false), Answer::Unknown));
    let history = after_birth(unknown.chain([event(2, 3, 4, open(0), seen(0, 1, &[("b", 1)]))]));
    assert_eq!(judge(&history), Verdict::Undecided);
}
