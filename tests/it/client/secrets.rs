//! What neither `Debug` nor a log ever shows: ids, request ids, the caller's token, and what visitors leave.

use std::time::Duration;

use sessiond_client::{Error, Save, SessionClient};
use sessiond_tests::{Log, World, reserved_port};
use tonic::{Code, Status};

use super::{
    ID, client_of, id, patient, patiently,
    scripted::{Answer, Scripted, outage, refusal},
};

const TOKEN: &str = "token-4711-of-the-caller";
const CONTENT: &str = "content-4712-of-a-visitor";

/// A text that may be shown to anybody.
#[track_caller]
fn shows_nothing(text: &str, secrets: &[&str]) {
    for secret in secrets {
        assert!(!text.contains(secret), "{secret} is in: {text}");
        // An id's two halves: the second is the secret.
        if let Some((_, second)) = secret.split_once('.') {
            assert!(!text.contains(second), "{second} is in: {text}");
        }
    }
}

/// Values that hold what nobody may see.
async fn life(client: &SessionClient) -> (Vec<String>, Vec<String>) {
    let created = client.save(Save::create().set("who", CONTENT).unwrap().subject("ada")).await.unwrap();
    let opened = client.open(created.id()).await.unwrap().expect("it is there");
    let changed = client.save(opened.change().set("more", &[CONTENT]).unwrap()).await.unwrap();
    let rotate = changed.change().rotate().replace_data(changed.data().clone());
    let rotated = client.save(rotate.clone()).await.unwrap();
    let late = client.save(opened.change().replace_data(Default::default())).await.unwrap_err();
    assert!(client.was_replaced(opened.id()).await.unwrap());
    client.destroy_unchanged(&rotated).await.unwrap();
    let gone = client.save(Save::of(rotated.id()).set("who", CONTENT).unwrap()).await.unwrap_err();
    let shown = [
        format!("{created:?} {opened:?} {changed:?} {rotated:?} {:#?}", rotated.id()),
        format!("{rotate:?} {:?} {:?}", Save::of(opened.id()), opened.change().remove("who")),
        format!("{late:?} {gone:?} {late} {gone} {client:#?}"),
        format!("{:?}", opened.get::<u8>("who").unwrap_err()),
    ];
    (shown.into(), [&created, &rotated].map(|session| session.id().expose().to_owned()).into())
}

#[tokio::test]
async fn debug_of_whatever_one_gets_shows_no_secret() {
    let world = World::memory(&[]).await;
    let builder = || patiently(world.server.address()).token(TOKEN);
    shows_nothing(&format!("{:?} {:#?}", builder(), builder()), &[TOKEN]);
    let (shown, ids) = life(&builder().build().unwrap()).await;
    for text in shown {
        shows_nothing(&text, &[TOKEN, CONTENT, &ids[0], &ids[1]]);
        assert!(text.len() > 10, "the test looks at something: {text}");
    }
}

#[test]
fn a_password_in_an_address_is_not_repeated() {
    let error = SessionClient::new(&format!("http://me:{TOKEN}@sessiond:1")).map(drop).expect_err("it is no address");
    shows_nothing(&format!("{error:?} {error}"), &[TOKEN]);
    assert!(error.to_string().contains("@sessiond:1"), "{error}");
}

#[tokio::test]
async fn debug_of_no_error_shows_a_secret() {
    let mut refusals: Vec<_> =
        ["SESSION_NOT_FOUND", "SESSION_CHANGED", "OUTCOME_UNKNOWN", "SESSION_TOO_LARGE", "STORE_FULL"]
            .into_iter()
            .chain(["INVALID_FIELD", "CALLER_UNKNOWN", "CALLER_NOT_ALLOWED", "INTERNAL", "OF_TOMORROW"])
            .map(|reason| refusal(Code::Internal, reason))
            .collect();
    refusals.extend([outage(Duration::ZERO), Status::unavailable(""), Status::unknown(""), Status::not_found("")]);
    for refused in refusals {
        let server = Scripted::refusing(refused);
        let client = patiently(server.address()).token(TOKEN).build().unwrap();
        let error = client.save(Save::of(&id()).set("who", CONTENT).unwrap()).await.unwrap_err();
        let request_id = &server.asked()[0].request_id;
        shows_nothing(&format!("{error:?} {error} {}", super::told(&error)), &[ID, TOKEN, CONTENT, request_id]);
    }
    let silent = Scripted::start(|_| Answer::Never);
    let nobody = format!("127.0.0.1:{}", reserved_port());
    let impatient = SessionClient::new(&silent.address().to_string()).unwrap();
    for client in [impatient, patient(nobody)] {
        let error = client.save(Save::of(&id()).set("who", CONTENT).unwrap()).await.unwrap_err();
        shows_nothing(&format!("{error:?}"), &[ID, CONTENT]);
    }
    let world = World::memory(&["--max-session-bytes", "1KiB"]).await;
    let client = client_of(&world);
    let large = client.save(Save::create().set("who", &CONTENT.repeat(100)).unwrap()).await.unwrap_err();
    let wrong = client.save(Save::create().subject(CONTENT.repeat(100))).await.unwrap_err();
    assert!(matches!((&large, &wrong), (Error::TooLarge { .. }, Error::Refused(_))));
    shows_nothing(&format!("{large:?} {large} {wrong:?} {wrong}"), &[CONTENT]);
}

/// One thread, so that this log has what the client and all that lies below it say, and nobody else's.
#[tokio::test]
async fn not_even_a_trace_shows_a_secret() {
    let world = World::memory(&[]).await;
    let outages = Scripted::start(|asked| match asked.before % 2 {
        0 => Answer::No(outage(Duration::ZERO)),
        _ => Answer::Fine,
    });
    let log = Log::start();

    let (_, ids) = life(&patiently(world.server.address()).token(TOKEN).build().unwrap()).await;
    let repeating = patiently(outages.address()).token(TOKEN).build().unwrap();
    repeating.save(Save::of(&id()).set("who", CONTENT).unwrap()).await.unwrap();
    let request_id = &outages.asked()[0].request_id;
    assert_eq!(request_id.len(), 36);
    let nobody = format!("127.0.0.1:{}", reserved_port());
    patient(nobody).save(Save::of(&id()).set("who", CONTENT).unwrap()).await.unwrap_err();

    let text = log.text();
    for library in ["h2::", "tonic", "sessiond_client"] {
        assert!(text.contains(library), "nothing is seen of what {library} logs");
    }
    println!("{} lines", text.lines().count());
    for line in text.lines() {
        shows_nothing(line, &[TOKEN, CONTENT, ID, &ids[0], &ids[1], request_id]);
    }
    // What is there would be found.
    tracing::trace!(target: "h2::codec", id = ID, header = %format!("Bearer {TOKEN}"), "a control");
    let planted = log.text();
    assert!(planted.contains(ID) && planted.contains(TOKEN));
}
