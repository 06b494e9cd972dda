use serde_json::{Map, Value};
use sessiond_proto::v1::{SaveRequest, Session};
use sessiond_tests::{
    Calls, Dice, World, again, create, is_outage, on_both_stores_and_through_several, reason, request_id,
};
use tonic::{Request, Status};

use super::{
    CALLERS, Callers, Figures, any, audit, blank, dawdle, end, is, look, map, race, save, tag_as_key, tag_in_list,
};

on_both_stores_and_through_several!(p5_requests_whose_answers_are_lost_and_that_are_repeated_have_their_effect_once);

async fn p5_requests_whose_answers_are_lost_and_that_are_repeated_have_their_effect_once(world: World) {
    race(&world, "answers lost", round).await;
}

/// Saves of each writer.
const SAVES: usize = 3;

/// A whole life in which answers get lost: a create, three writers at once, beside them (in every other round) a rotate,
/// then a Destroy; and last of all, everything again.
async fn round(callers: Callers, mut dice: Dice) -> Figures {
    let mut figures = Figures::default();
    let born = SaveRequest { request_id: request_id(), ..create(blank()) };
    let session = insist(&callers, &mut dice, &born, &mut figures).await.expect("a create is not refused");

    let [mut da, mut db, mut dc, mut dd] = std::array::from_fn(|n| dice.split(n));
    let rotates = dice.once_in(2);
    let (a, b, c, rotated) = tokio::join!(
        Writer::write(&callers, &mut da, &session, "a"),
        Writer::write(&callers, &mut db, &session, "b"),
        Writer::write(&callers, &mut dc, &session, "c"),
        async { if rotates { Some(rotate(&callers, &mut dd, &session).await) } else { None } },
    );
    let (mut acknowledged, mut refused, mut requests) = (Vec::new(), Vec::new(), vec![born]);
    for writer in [a, b, c] {
        figures += writer.figures;
        acknowledged.extend(writer.acknowledged);
        refused.extend(writer.refused);
        requests.extend(writer.requests);
    }
    let mut newest = session.clone();
    if let Some((request, answer, more)) = rotated {
        figures += more;
        newest = answer.expect("the repeat of a rotate is not refused");
        acknowledged.push("rotated".to_owned());
        requests.push(request);
        if look(&callers[0], &session.id).await.is_some() {
            figures.revived.push(format!("{}: the old id opens", session.handle));
        }
    }
    match look(&callers[1], &newest.id).await {
        Some(stands) => audit(&mut figures, &stands, &acknowledged, &refused),
        None => figures.lost.push(format!("{}: it is not there", session.handle)),
    }

    // A logout, given up on and repeated.
    for (attempt, stub) in callers.iter().enumerate() {
        let mut stub = stub.clone();
        if attempt + 1 == CALLERS || dice.once_in(2) {
            end(&stub, &newest.id).await;
            break;
        }
        tokio::select! { biased; () = dawdle(&mut dice) => {}, _ = stub.end(&newest.id) => {} }
    }
    for (n, request) in requests.iter().enumerate() {
        if save(&callers[n % callers.len()], request.clone()).await.is_ok() {
            figures.revived.push(format!("{}: a repeat was acknowledged", session.handle));
        }
    }
    for id in [&session.id, &newest.id] {
        if look(&callers[2], id).await.is_some() {
            figures.revived.push(format!("{}: it opens", session.handle));
        }
    }
    figures
}

/// Sends the request until an answer is not lost: over whichever connection, given up on after a random while, or lost
/// when it had already come. Whatever was said before must not contradict what is said at last.
async fn insist(
    callers: &Callers,
    dice: &mut Dice,
    request: &SaveRequest,
    figures: &mut Figures,
) -> Result<Session, Status> {
    let mut said: Option<Result<Session, Status>> = None;
    for attempt in 0.. {
        let mut stub = callers[dice.below(callers.len())].clone();
        let sent = if attempt == 0 { Request::new(request.clone()) } else { again(request) };
        let is_last = attempt >= 4 || dice.once_in(2);
        let answer = if is_last {
            Some(stub.store(sent).await)
        } else {
            tokio::select! { biased; () = dawdle(dice) => None, answer = stub.store(sent) => Some(answer) }
        };
        match (answer, is_last) {
            (Some(Err(status)), _) if is_outage(&status) => figures.count("outages"),
            (Some(answer), true) => {
                agree(said.as_ref(), &answer, request, figures);
                return answer;
            }
            (Some(answer), false) => {
                figures.count("answers lost");
                agree(said.as_ref(), &answer, request, figures);
                said = Some(answer);
            }
            (None, _) => figures.count("calls given up"),
        }
    }
    unreachable!("in the end there is an answer")
}

/// An operation that was applied stays so, and one that was refused is not applied by a repeat; the id is always the same.
fn agree(
    before: Option<&Result<Session, Status>>,
    now: &Result<Session, Status>,
    request: &SaveRequest,
    figures: &mut Figures,
) {
    match (before, now) {
        (Some(Ok(before)), Ok(now)) if before.id != now.id => {
            figures.twice.push(format!("{}: one request, two ids", now.handle));
        }
        (Some(Err(before)), Ok(now)) if !is(before, "OUTCOME_UNKNOWN") => {
            figures.twice.push(format!("{}: {}, and then it was applied", now.handle, reason(before)));
        }
        (Some(Ok(before)), Err(now)) if !request.rotate && is(now, "SESSION_CHANGED") => {
            figures.lost.push(format!("{}: acknowledged, and then {}", before.handle, reason(now)));
        }
        _ => {}
    }
}

/// Rotates after a while.
async fn rotate(
    callers: &Callers,
    dice: &mut Dice,
    session: &Session,
) -> (SaveRequest, Result<Session, Status>, Figures) {
    let mut figures = Figures::default();
    dawdle(dice).await;
    let omit_data = dice.once_in(2);
    let request = tag_as_key(&any(session), "rotated");
    let request = SaveRequest { rotate: true, omit_data, request_id: request_id(), ..request };
    let answer = insist(callers, dice, &request, &mut figures).await;
    (request, answer, figures)
}

/// Someone who brings tags in, and goes on from what the answers say: an etag that the server should not have given would
/// make the next whole map overwrite what others wrote.
#[derive(Default)]
struct Writer {
    figures: Figures,
    acknowledged: Vec<String>,
    refused: Vec<String>,
    requests: Vec<SaveRequest>,
}

impl Writer {
    async fn write(callers: &Callers, dice: &mut Dice, session: &Session, name: &str) -> Self {
        let mut writer = Self::default();
        let mut known = Some((session.clone(), map(session)));
        for n in 0..SAVES {
            dawdle(dice).await;
            let tag = format!("{name}{n}");
            if known.is_none() || dice.once_in(3) {
                let opened = look(&callers[dice.below(callers.len())], &session.id).await;
                // Rotated away.
                let Some(opened) = opened else { break };
                known = Some((opened.clone(), map(&opened)));
            }
            let (newest, data) = known.take().expect("just opened");
            let (request, after) = next(dice, &newest, &data, &tag);
            let answer = insist(callers, dice, &request, &mut writer.figures).await;
            writer.requests.push(request);
            match answer {
                Ok(saved) => {
                    writer.figures.count("acknowledged");
                    writer.acknowledged.push(tag);
                    if !saved.etag.is_empty() {
                        let data = if saved.data.is_some() { map(&saved) } else { after };
                        known = Some((saved, data));
                    }
                }
                Err(status) if is(&status, "OUTCOME_UNKNOWN") => writer.figures.count("outcome unknown"),
                Err(status) => {
                    assert!(["SESSION_CHANGED", "SESSION_NOT_FOUND"].contains(&&reason(&status)[..]), "{status:?}");
                    writer.figures.count("refused");
                    writer.refused.push(tag);
                }
            }
        }
        writer
    }
}

/// A Save that brings the tag in, and what its caller then takes the data to be.
fn next(dice: &mut Dice, newest: &Session, data: &Map<String, Value>, tag: &str) -> (SaveRequest, Map<String, Value>) {
    let mut after = data.clone();
    let request = if dice.once_in(2) {
        after["list"].as_array_mut().expect("a list").push(tag.into());
        tag_in_list(newest, data, tag)
    } else {
        after.insert(tag.to_owned(), true.into());
        let newest = if dice.once_in(2) { any(newest) } else { newest.clone() };
        tag_as_key(&newest, tag)
    };
    (SaveRequest { request_id: request_id(), omit_data: dice.once_in(2), ..request }, after)
}
