use sessiond_proto::v1::Session;
use sessiond_tests::{Dice, Stub, World, create, on_both_stores_and_through_several};

use super::{Callers, Figures, any, audit, blank, dawdle, is, look, map, race, save, tag_as_key, tag_in_list};

on_both_stores_and_through_several!(p1_of_saves_that_race_each_other_none_is_lost);

async fn p1_of_saves_that_race_each_other_none_is_lost(world: World) {
    race(&world, "save against save", round).await;
}

/// All bring a tag in at once: one half by changed keys, which is never refused, one half in a whole map, which is
/// refused whenever another was faster, and then decides again.
async fn round(callers: Callers, mut dice: Dice) -> Figures {
    let mut figures = Figures::default();
    let session = save(&callers[0], create(blank())).await.unwrap();
    let [a, b, c, d] = &callers;
    let [mut da, mut db, mut dc, mut dd] = std::array::from_fn(|n| dice.split(n));
    let whole = dice.below(5);
    let (ra, rb, rc, rd) = tokio::join!(
        bring_in(a, &mut da, &session, "a", whole > 0),
        bring_in(b, &mut db, &session, "b", whole > 1),
        bring_in(c, &mut dc, &session, "c", whole > 2),
        bring_in(d, &mut dd, &session, "d", whole > 3),
    );
    for refusals in [ra, rb, rc, rd] {
        figures.count("acknowledged");
        (0..refusals).for_each(|_| figures.count("decided again"));
    }
    let stands = look(a, &session.id).await.expect("it is there");
    audit(&mut figures, &stands, &["a", "b", "c", "d"].map(str::to_owned), &[]);
    figures
}

/// Saves until it is acknowledged; gives how often it had to decide again.
async fn bring_in(stub: &Stub, dice: &mut Dice, session: &Session, tag: &str, whole: bool) -> usize {
    dawdle(dice).await;
    if !whole {
        let session = if dice.once_in(2) { any(session) } else { session.clone() };
        save(stub, tag_as_key(&session, tag)).await.expect("changed keys are not refused for another writer's sake");
        return 0;
    }
    let mut refusals = 0;
    loop {
        let opened = look(stub, &session.id).await.expect("it is there");
        match save(stub, tag_in_list(&opened, &map(&opened), tag)).await {
            Ok(_) => return refusals,
            Err(status) => assert!(is(&status, "SESSION_CHANGED"), "{status:?}"),
        }
        refusals += 1;
    }
}
