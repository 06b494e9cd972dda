use std::sync::atomic::{AtomicBool, Ordering};

use sessiond_proto::v1::{SaveRequest, Session};
use sessiond_tests::{Dice, Stub, World, create, on_both_stores_and_through_several};

use super::{Callers, Figures, any, audit, blank, dawdle, is, look, map, race, save, tag_as_key, tag_in_list};

on_both_stores_and_through_several!(p3_an_id_rotated_away_under_saves_opens_nothing_and_p1_no_save_is_lost);

async fn p3_an_id_rotated_away_under_saves_opens_nothing_and_p1_no_save_is_lost(world: World) {
    race(&world, "rotate against save", round).await;
}

/// Two save with the old id until it is dead, one rotates, and in every third round a fourth does so, too.
async fn round(callers: Callers, mut dice: Dice) -> Figures {
    let old = save(&callers[0], create(blank())).await.unwrap();
    let [a, b, c, d] = &callers;
    let [mut da, mut db, mut dc, mut dd] = std::array::from_fn(|n| dice.split(n));
    let (dead, rivals) = (AtomicBool::new(false), dice.once_in(3));
    let (mut ours, theirs, one, other) = tokio::join!(
        keep_saving(a, &mut da, &old, "a", &dead),
        keep_saving(b, &mut db, &old, "b", &dead),
        rotate(c, &mut dc, &old, "one", &dead),
        async { if rivals { rotate(d, &mut dd, &old, "other", &dead).await } else { None } },
    );
    let Saver { figures, acknowledged, refused } = &mut ours;
    *figures += theirs.figures;
    acknowledged.extend(theirs.acknowledged);
    refused.extend(theirs.refused);

    let winners: Vec<_> =
        [("one", one), ("other", other)].into_iter().filter_map(|(tag, new)| Some((tag, new?))).collect();
    let [(tag, new)] = &winners[..] else {
        figures.twice.push(format!("{}: {} rotates won", old.handle, winners.len()));
        return ours.figures;
    };
    figures.count("rotates");
    acknowledged.push((*tag).to_owned());
    if look(a, &old.id).await.is_some() {
        figures.revived.push(format!("{}: the old id opens", old.handle));
    }
    match look(b, &new.id).await {
        Some(stands) => audit(figures, &stands, acknowledged, refused),
        None => figures.lost.push(format!("{}: the new id opens nothing", old.handle)),
    }
    ours.figures
}

#[derive(Default)]
struct Saver {
    figures: Figures,
    acknowledged: Vec<String>,
    refused: Vec<String>,
}

/// Brings tags in with the old id until it is dead.
async fn keep_saving(stub: &Stub, dice: &mut Dice, old: &Session, name: &str, dead: &AtomicBool) -> Saver {
    let mut saver = Saver::default();
    for n in 0.. {
        let (known_dead, tag) = (dead.load(Ordering::SeqCst), format!("{name}{n}"));
        let request = match dice.below(3) {
            0 => tag_as_key(old, &tag),
            1 => tag_as_key(&any(old), &tag),
            _ => match look(stub, &old.id).await {
                Some(opened) => tag_in_list(&opened, &map(&opened), &tag),
                None => return saver,
            },
        };
        match save(stub, request).await {
            Ok(_) => {
                saver.figures.count("Saves before the rotate");
                saver.acknowledged.push(tag);
                if known_dead {
                    saver.figures.revived.push(format!("{}: the old id saved", old.handle));
                }
            }
            // Only after an outage: applied, perhaps, before the id was replaced.
            Err(status) if is(&status, "OUTCOME_UNKNOWN") => return saver,
            Err(status) => {
                saver.refused.push(tag);
                if is(&status, "SESSION_CHANGED") {
                    continue;
                }
                assert!(is(&status, "SESSION_NOT_FOUND"), "{status:?}");
                saver.figures.count("Saves after it");
                return saver;
            }
        }
    }
    saver
}

/// Rotates after a while; the new session, if no one else was faster.
async fn rotate(stub: &Stub, dice: &mut Dice, old: &Session, tag: &str, dead: &AtomicBool) -> Option<Session> {
    dawdle(dice).await;
    let request = SaveRequest { rotate: true, ..tag_as_key(old, tag) };
    match save(stub, request).await {
        Ok(new) => {
            dead.store(true, Ordering::SeqCst);
            Some(new)
        }
        Err(status) => {
            assert!(is(&status, "SESSION_NOT_FOUND"), "{status:?}");
            None
        }
    }
}
