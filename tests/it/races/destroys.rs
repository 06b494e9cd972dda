use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json as j;
use sessiond_proto::v1::{SaveRequest, Session};
use sessiond_tests::{Dice, Stub, World, create, on_both_stores_and_through_several, replace, request_id};

use super::{Callers, Figures, any, blank, dawdle, end, is, look, race, save, tag_as_key};

on_both_stores_and_through_several!(p2_no_save_and_no_rotate_that_races_a_destroy_brings_the_session_back);

async fn p2_no_save_and_no_rotate_that_races_a_destroy_brings_the_session_back(world: World) {
    race(&world, "save against destroy", round).await;
}

/// Two save in every way there is, a third opens or (in every other round) rotates once, the fourth destroys.
async fn round(callers: Callers, mut dice: Dice) -> Figures {
    let born = SaveRequest { request_id: request_id(), ..create(blank()) };
    let session = save(&callers[0], born.clone()).await.unwrap();
    let [a, b, c, d] = &callers;
    let [mut da, mut db, mut dc, mut dd] = std::array::from_fn(|n| dice.split(n));
    let dead = AtomicBool::new(false);
    let rotates = dice.once_in(2);
    let (mut figures, other, (rotated, third), ()) = tokio::join!(
        keep_saving(a, &mut da, &session, &dead),
        keep_saving(b, &mut db, &session, &dead),
        async {
            if rotates {
                rotate(c, &mut dc, &session, &dead).await
            } else {
                (None, keep_opening(c, &session, &dead).await)
            }
        },
        async {
            dawdle(&mut dd).await;
            end(d, &session.id).await;
            dead.store(true, Ordering::SeqCst);
        },
    );
    figures += other;
    figures += third;
    figures.count("destroyed");
    // And what is late: the create again, and whoever still holds an id.
    let ids = [Some(session.id.clone()), rotated.map(|new| new.id)];
    for stub in [a, b] {
        if save(stub, born.clone()).await.is_ok() {
            figures.revived.push(format!("{}: its create was repeated", session.handle));
        }
        for id in ids.iter().flatten() {
            if look(stub, id).await.is_some() {
                figures.revived.push(format!("{}: it opens", session.handle));
            }
            let holder = Session { id: id.clone(), ..any(&session) };
            if save(stub, tag_as_key(&holder, "late")).await.is_ok() {
                figures.revived.push(format!("{}: it was saved", session.handle));
            }
        }
    }
    figures
}

/// Saves until the session is gone.
async fn keep_saving(stub: &Stub, dice: &mut Dice, session: &Session, dead: &AtomicBool) -> Figures {
    let (mut figures, mut newest) = (Figures::default(), session.clone());
    loop {
        let known_dead = dead.load(Ordering::SeqCst);
        let request = match dice.below(4) {
            0 => replace(&newest, j!({"list": []})),
            1 => replace(&any(&newest), j!({"list": []})),
            2 => tag_as_key(&newest, "tag"),
            _ => tag_as_key(&any(&newest), "tag"),
        };
        match save(stub, request).await {
            Ok(_) if known_dead => figures.revived.push(format!("{}: a Save was acknowledged", session.handle)),
            Ok(saved) => {
                figures.count("Saves before it");
                newest = saved;
            }
            Err(status) if is(&status, "SESSION_CHANGED") || is(&status, "OUTCOME_UNKNOWN") => {
                assert!(!known_dead, "a destroyed session has no version");
                match look(stub, &newest.id).await {
                    Some(opened) => newest = opened,
                    None => return figures,
                }
            }
            Err(status) => {
                // After a rotate the id is dead as well.
                assert!(is(&status, "SESSION_NOT_FOUND"), "{status:?}");
                figures.count("Saves after it");
                return figures;
            }
        }
    }
}

/// Opens until the session is gone.
async fn keep_opening(stub: &Stub, session: &Session, dead: &AtomicBool) -> Figures {
    let mut figures = Figures::default();
    loop {
        let known_dead = dead.load(Ordering::SeqCst);
        let found = look(stub, &session.id).await;
        if found.is_some() && known_dead {
            figures.revived.push(format!("{}: an Open found it", session.handle));
        }
        if found.is_none() || known_dead {
            return figures;
        }
        figures.count("Opens before it");
    }
}

/// Rotates once, and goes on with the new id until the session is gone.
async fn rotate(stub: &Stub, dice: &mut Dice, session: &Session, dead: &AtomicBool) -> (Option<Session>, Figures) {
    dawdle(dice).await;
    let known_dead = dead.load(Ordering::SeqCst);
    let request = SaveRequest { rotate: true, subject: Some("ada".to_owned()), ..tag_as_key(&any(session), "rotated") };
    match save(stub, request).await {
        Ok(new) => {
            let mut figures = keep_saving(stub, dice, &new, dead).await;
            figures.count("rotates before it");
            if known_dead {
                figures.revived.push(format!("{}: a rotate was acknowledged", session.handle));
            }
            (Some(new), figures)
        }
        Err(status) => {
            assert!(is(&status, "SESSION_NOT_FOUND"), "{status:?}");
            (None, Figures::default())
        }
    }
}
