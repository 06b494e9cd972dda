//! A later build adds tagged fields to a record, and more to a tombstone. This build keeps the fields byte for byte in
//! whatever it writes, and heeds the tombstone. So must the build before it: where there is one, it is tested as well.

use redis::cmd;
use serde_json::json as j;
use sessiond_proto::v1::{DestroyRequest, OpenRequest, SaveRequest, Session};
use sessiond_tests::{
    Build, Calls, Server, Stub, TestRedis, again, change, create, eventually, json, keep, reason, replace, request_id,
};

/// Offset of the length of the tagged fields, and of the fields.
const LENGTH: usize = 150;
const FIELDS: usize = 156;

#[tokio::test]
async fn this_build_keeps_the_fields_of_a_later_one() {
    keeps_the_fields_of_a_later_one(Build::This).await;
}

#[tokio::test]
async fn the_previous_build_keeps_the_fields_of_a_later_one() {
    if Build::has_previous() {
        keeps_the_fields_of_a_later_one(Build::Previous).await;
    }
}

#[tokio::test]
async fn this_build_heeds_the_tombstone_of_a_later_one() {
    heeds_the_tombstone_of_a_later_one(Build::This).await;
}

#[tokio::test]
async fn the_previous_build_heeds_the_tombstone_of_a_later_one() {
    if Build::has_previous() {
        heeds_the_tombstone_of_a_later_one(Build::Previous).await;
    }
}

/// A service of this build, and what is behind it.
struct Site {
    redis: TestRedis,
    _server: Server,
    stub: Stub,
}

impl Site {
    async fn of(build: Build) -> Self {
        let redis = TestRedis::start().await;
        let server = Server::start_build(build, "127.0.0.1:0", &["--store", &redis.url()]).await;
        server.ready().await;
        Self { stub: server.stub(), redis, _server: server }
    }

    async fn run<T: redis::FromRedisValue>(&self, command: &mut redis::Cmd) -> T {
        command.query_async(&mut self.redis.connection().await).await.expect("Redis does it")
    }

    async fn record(&self, session: &Session) -> Vec<u8> {
        self.run(cmd("GET").arg(key(session))).await
    }

    /// Adds tagged fields to a record, as a later build would.
    async fn plant(&self, session: &Session, fields: &[u8]) {
        let mut record = self.record(session).await;
        assert_eq!(record[LENGTH..LENGTH + 2], [0, 0], "no field is defined yet");
        record[LENGTH..LENGTH + 2].copy_from_slice(&u16::try_from(fields.len()).expect("short").to_be_bytes());
        record.splice(FIELDS..FIELDS, fields.iter().copied());
        let () = self.run(cmd("SET").arg(key(session)).arg(record).arg("KEEPTTL")).await;
    }

    async fn assert_kept(&self, session: &Session, fields: &[u8], after: &str) {
        let record = self.record(session).await;
        let length = usize::from(u16::from_be_bytes([record[LENGTH], record[LENGTH + 1]]));
        assert_eq!((length, &record[FIELDS..FIELDS + length]), (fields.len(), fields), "after {after}");
    }
}

fn key(session: &Session) -> String {
    format!("session:default:{}", session.handle)
}

fn field(tag: u8, value: &[u8]) -> Vec<u8> {
    [&[tag][..], &u16::try_from(value.len()).expect("short").to_be_bytes(), value].concat()
}

fn repeatable(request: SaveRequest) -> SaveRequest {
    SaveRequest { request_id: request_id(), ..request }
}

async fn keeps_the_fields_of_a_later_one(build: Build) {
    let mut site = Site::of(build).await;
    let long: Vec<u8> = (0..3_000_u32).map(|n| n as u8).collect();
    let several = [field(1, b"a description"), field(0, b""), field(255, &[0; 40])].concat();
    for fields in [field(7, b"\0R\x02T"), several, field(200, &long)] {
        let subject = Some("é".repeat(128));
        let first = site.stub.store(SaveRequest { subject, ..create(j!({"a": 1})) }).await.unwrap();
        site.plant(&first, &fields).await;

        let opened = site.stub.look(&first.id).await.expect("it opens");
        assert_eq!((&opened.data, &opened.etag, &opened.subject), (&first.data, &first.etag, &first.subject));
        let merge = repeatable(change(&opened, &["b", "a"], j!({"b": 2})));
        let merged = site.stub.store(merge.clone()).await.unwrap();
        assert_eq!(json(merged.data.as_ref().unwrap()), j!({"b": 2}));
        site.assert_kept(&first, &fields, "a merge").await;
        assert_eq!(site.stub.store(again(&merge)).await.unwrap().etag, merged.etag, "a repeat is recognized");
        site.assert_kept(&first, &fields, "a repeat").await;

        let replaced = site.stub.store(replace(&merged, j!({"c": "x".repeat(2_000)}))).await.unwrap();
        site.assert_kept(&first, &fields, "replace_all").await;
        let kept =
            SaveRequest { idle_timeout: Some(prost_types::Duration { seconds: 900, nanos: 0 }), ..keep(&replaced) };
        let kept = site.stub.store(kept).await.unwrap();
        site.assert_kept(&first, &fields, "a Save that leaves the data").await;
        for number in 0..30 {
            site.stub.store(change(&kept, &["n"], j!({ "n": number }))).await.unwrap();
        }
        site.assert_kept(&first, &fields, "thirty Saves").await;

        let any = Session { etag: String::new(), ..first.clone() };
        let login = repeatable(SaveRequest { rotate: true, subject: Some("ada".to_owned()), ..keep(&any) });
        let rotated = site.stub.store(login.clone()).await.unwrap();
        site.assert_kept(&first, &fields, "a rotate").await;
        assert_eq!(site.stub.store(again(&login)).await.unwrap().id, rotated.id, "a repeat is recognized");
        assert!(site.stub.look(&first.id).await.is_none(), "the old id opens nothing");

        let ttl = async |site: &Site| site.run::<i64>(cmd("PTTL").arg(key(&first))).await;
        let () = site.run(cmd("PEXPIRE").arg(key(&first)).arg(60_000)).await;
        let data = site.stub.look(&rotated.id).await.expect("it opens").data;
        assert_eq!(json(&data.unwrap())["n"], 29);
        eventually("the Open renews the session", async || ttl(&site).await > 60_000).await;
        site.assert_kept(&first, &fields, "a renewal").await;
        site.stub.end(&rotated.id).await.unwrap();
        assert!(site.stub.look(&rotated.id).await.is_none(), "it is destroyed");
    }
}

async fn heeds_the_tombstone_of_a_later_one(build: Build) {
    let mut site = Site::of(build).await;
    let birth = repeatable(create(j!({"a": 1})));
    let session = site.stub.store(birth.clone()).await.unwrap();
    site.stub.end(&session.id).await.unwrap();
    let _: usize = site.run(cmd("APPEND").arg(key(&session)).arg(field(9, b"more"))).await;
    let tombstone = site.record(&session).await;

    assert!(site.stub.look(&session.id).await.is_none(), "it does not open");
    let held_up = site.stub.store(again(&birth)).await.expect_err("a create that was held up");
    assert_eq!(reason(&held_up), "SESSION_NOT_FOUND");
    let save = site.stub.store(change(&session, &["a"], j!({"a": 2}))).await.expect_err("nothing is there to change");
    assert_eq!(reason(&save), "SESSION_NOT_FOUND");
    let no_renew = OpenRequest { id: session.id.clone(), no_renew: false };
    assert_eq!(site.stub.open(no_renew).await.unwrap().into_inner().session.unwrap().id, "");
    site.stub.destroy(again(&DestroyRequest { id: session.id.clone(), etag: String::new() })).await.unwrap();
    assert_eq!(site.record(&session).await, tombstone, "nothing was written");
}
