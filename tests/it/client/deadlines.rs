//! How long a call may take.

use std::time::{Duration, Instant};

use sessiond_client::{ConfigError, Deadlines, Save};

use super::{
    SessionClient, deadlines, id,
    scripted::{Answer, Scripted, outage},
    told,
};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A server that answers one call and then never again: so a test measures no making of connections.
fn silent() -> Scripted {
    Scripted::start(|asked| if asked.before == 0 { Answer::Fine } else { Answer::Never })
}

async fn warm_up(client: &SessionClient, server: &Scripted) {
    client.destroy(&id()).await.expect("the first call is answered");
    server.asked();
}

/// All three calls to a server that never answers take as long as that, and tell it so.
async fn they_take(client: SessionClient, server: &Scripted, expected: Deadlines) {
    let Deadlines { open, save, destroy } = expected;
    warm_up(&client, server).await;
    for (method, deadline) in [("open", open), ("save", save), ("destroy", destroy)] {
        let begun = Instant::now();
        let error = match method {
            "open" => client.open(&id()).await.map(drop),
            "save" => client.save(Save::create()).await.map(drop),
            _ => client.destroy(&id()).await,
        }
        .expect_err("nobody answered");
        let took = begun.elapsed();
        assert!(error.is_outage() && told(&error).contains("deadline"), "{}", told(&error));
        // A timer may be late on a slow machine, never early.
        assert!((deadline..deadline + ms(400)).contains(&took), "{method} took {took:?}");
        let [asked] = &server.asked()[..] else { panic!("{method} was not asked once") };
        assert_eq!(asked.method, method);
        assert!((deadline / 2..=deadline).contains(&asked.timeout()), "{method} said {:?}", asked.timeout());
    }
}

#[tokio::test]
async fn a_silent_service_costs_what_the_call_is_worth() {
    let server = silent();
    let client = SessionClient::new(&server.address().to_string()).unwrap();
    they_take(client, &server, Deadlines { open: ms(300), save: ms(500), destroy: ms(1_000) }).await;
}

#[tokio::test]
async fn deadlines_can_be_set() {
    let server = silent();
    let given = Deadlines { open: ms(700), save: ms(150), ..Deadlines::default() };
    let client = SessionClient::builder().address(server.address().to_string()).deadlines(given).build().unwrap();
    they_take(client, &server, given).await;

    let nothing = Deadlines { save: Duration::ZERO, ..Deadlines::default() };
    let refused = SessionClient::builder().deadlines(nothing).build().unwrap_err();
    assert_eq!(refused, ConfigError::NoTime);
}

#[tokio::test]
async fn a_deadline_without_end_is_none() {
    let server =
        Scripted::start(|asked| if asked.before == 0 { Answer::No(outage(Duration::ZERO)) } else { Answer::Fine });
    let client = SessionClient::builder().address(server.address().to_string()).deadlines(deadlines(Duration::MAX));
    let client = client.build().unwrap();
    client.open(&id()).await.unwrap();
    client.save(Save::create()).await.unwrap();
    // Nor does a wait without end break anything: it is not waited.
    let mad = Scripted::refusing(outage(Duration::from_secs(315_576_000_000)));
    let error = super::patient(mad.address()).open(&id()).await.unwrap_err();
    assert!(error.is_outage());
}

#[tokio::test]
async fn repeats_do_not_prolong_it() {
    let server = Scripted::start(|asked| match asked.before {
        0 => Answer::Fine,
        1 => Answer::No(outage(Duration::ZERO)),
        _ => Answer::Never,
    });
    let client = SessionClient::new(&server.address().to_string()).unwrap();
    warm_up(&client, &server).await;
    let begun = Instant::now();
    client.save(Save::create()).await.unwrap_err();
    let took = begun.elapsed();
    assert!((ms(500)..ms(900)).contains(&took), "it took {took:?}");
    assert_eq!(server.asked().len(), 2);
}
