//! The few words in which the tests speak of sessions.

use std::env;

use serde_json::{Map, Value};
use sessiond_proto::{
    RawStruct,
    v1::{DestroyRequest, OpenRequest, SaveRequest, SaveResponse, Session},
};
use tonic::{IntoRequest, Request, Status};
use tonic_types::{ErrorDetail, StatusExt};

use crate::Stub;

/// JSON as a caller's library would send it.
pub fn data(json: Value) -> RawStruct {
    let Value::Object(fields) = json else { panic!("session data is a JSON object") };
    RawStruct::from(proto_object(fields))
}

/// What a caller's library makes of the data: JSON again.
pub fn json(data: &RawStruct) -> Value {
    from_object(data.decode().expect("data is a google.protobuf.Struct"))
}

fn proto_object(fields: Map<String, Value>) -> prost_types::Struct {
    prost_types::Struct { fields: fields.into_iter().map(|(key, value)| (key, proto_value(value))).collect() }
}

/// One JSON value as protobuf.
pub fn proto_value(value: Value) -> prost_types::Value {
    use prost_types::value::Kind;
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(value),
        Value::Number(value) => Kind::NumberValue(value.as_f64().expect("a double")),
        Value::String(value) => Kind::StringValue(value),
        Value::Array(values) => {
            Kind::ListValue(prost_types::ListValue { values: values.into_iter().map(proto_value).collect() })
        }
        Value::Object(fields) => Kind::StructValue(proto_object(fields)),
    };
    prost_types::Value { kind: Some(kind) }
}

fn from_object(object: prost_types::Struct) -> Value {
    Value::Object(object.fields.into_iter().map(|(key, value)| (key, from_value(value))).collect())
}

fn from_value(value: prost_types::Value) -> Value {
    use prost_types::value::Kind;
    match value.kind.expect("every value has a kind") {
        Kind::NullValue(_) => Value::Null,
        Kind::BoolValue(value) => Value::Bool(value),
        // As every JSON library writes it: a double that is a whole number has no point.
        Kind::NumberValue(value) if value.fract() == 0.0 && value.abs() < 2f64.powi(53) => (value as i64).into(),
        Kind::NumberValue(value) => serde_json::Number::from_f64(value).expect("it is finite").into(),
        Kind::StringValue(value) => Value::String(value),
        Kind::ListValue(list) => Value::Array(list.values.into_iter().map(from_value).collect()),
        Kind::StructValue(object) => from_object(object),
    }
}

/// A fresh request id.
pub fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A Save that creates a session.
pub fn create(json: Value) -> SaveRequest {
    SaveRequest { session: Some(Session { data: Some(data(json)), ..Default::default() }), ..Default::default() }
}

/// A Save that names the session and changes nothing of its data.
pub fn keep(session: &Session) -> SaveRequest {
    SaveRequest { session: Some(Session { data: None, ..session.clone() }), ..Default::default() }
}

/// A Save that replaces the whole map of the session's data.
pub fn replace(session: &Session, json: Value) -> SaveRequest {
    let session = Session { data: Some(data(json)), ..session.clone() };
    SaveRequest { session: Some(session), replace_all: true, ..Default::default() }
}

/// A Save of these keys: each gets its value from `json`, or is removed if `json` lacks it.
pub fn change(session: &Session, keys: &[&str], json: Value) -> SaveRequest {
    let is_changed = |key: &&str| json.get(*key).is_some();
    let (changed, removed): (Vec<_>, Vec<_>) = keys.iter().partition(|key| is_changed(key));
    let owned = |keys: Vec<&str>| keys.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let data = (!changed.is_empty()).then(|| data(json));
    SaveRequest {
        session: Some(Session { data, ..session.clone() }),
        changed_keys: owned(changed),
        removed_keys: owned(removed),
        ..Default::default()
    }
}

/// A status with this reason of sessiond's in the trailer, and without details.
pub fn refused(code: tonic::Code, reason: &'static str) -> Status {
    let mut trailers = tonic::metadata::MetadataMap::new();
    trailers.insert("sessiond-reason", tonic::metadata::MetadataValue::from_static(reason));
    Status::with_metadata(code, "in words", trailers)
}

/// The same request again, as whoever repeats by hand sends it: it says that it is not the first attempt (gRFC A6).
pub fn again<T: Clone>(request: &T) -> Request<T> {
    let mut repeat = Request::new(request.clone());
    repeat.metadata_mut().insert("grpc-previous-rpc-attempts", tonic::metadata::MetadataValue::from_static("1"));
    repeat
}

/// Whether nothing can be said of the outcome, because the service or its store was too slow: on a machine that stands
/// still for seconds, as some do under load, that is no fault. Whoever is told so repeats.
pub fn is_outage(status: &Status) -> bool {
    matches!(status.code(), tonic::Code::Unavailable | tonic::Code::DeadlineExceeded)
}

/// Chance that can be repeated: a test prints the seed, and `SESSIOND_TESTS_SEED` sets it.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    /// Dice with the seed from the environment, or else a new one.
    pub fn new(what: &str) -> Self {
        let given = env::var("SESSIOND_TESTS_SEED").ok();
        let seed = given.map_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0, |seed| seed.parse().expect("a number"));
        println!("{what}: SESSIOND_TESTS_SEED={seed}");
        Self(seed)
    }

    /// Dice of their own for one of many tasks, that throw the same whatever the others do.
    pub fn split(&self, task: usize) -> Self {
        let mut dice = Self(self.0 ^ (task as u64 + 1).wrapping_mul(0xd134_2543_de82_ef95));
        dice.throw();
        dice
    }

    /// 64 random bits (SplitMix64).
    pub fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.throw() % limit as u64) as usize
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

/// The three calls in the words of the tests.
#[expect(async_fn_in_trait, reason = "for the tests of this workspace alone")]
pub trait Calls {
    /// Opens a session; `None` if there is none.
    async fn look(&mut self, id: &str) -> Option<Session>;
    /// Saves.
    async fn store(&mut self, request: impl IntoRequest<SaveRequest>) -> Result<Session, Status>;
    /// Destroys, whatever the version.
    async fn end(&mut self, id: &str) -> Result<(), Status>;
}

impl Calls for Stub {
    async fn look(&mut self, id: &str) -> Option<Session> {
        let answer = self.open(OpenRequest { id: id.to_owned(), no_renew: false }).await.expect("Open is answered");
        let session = answer.into_inner().session.expect("Open always sets the session");
        (!session.id.is_empty()).then_some(session)
    }

    async fn store(&mut self, request: impl IntoRequest<SaveRequest>) -> Result<Session, Status> {
        let SaveResponse { session } = self.save(request).await?.into_inner();
        Ok(session.expect("Save always sets the session"))
    }

    async fn end(&mut self, id: &str) -> Result<(), Status> {
        self.destroy(DestroyRequest { id: id.to_owned(), etag: String::new() }).await.map(drop)
    }
}

/// The reason that an error gives, as in `error_reason.proto`. Every error of the service has one, in its ErrorInfo with the
/// service's domain and as plain text in the trailer `sessiond-reason`.
pub fn reason(status: &Status) -> String {
    let details = status.get_error_details_vec();
    let infos = details.into_iter().filter_map(|detail| match detail {
        ErrorDetail::ErrorInfo(info) => Some(info),
        _ => None,
    });
    let Ok([info]) = <[_; 1]>::try_from(infos.collect::<Vec<_>>()) else {
        panic!("not exactly one ErrorInfo in {status:?}")
    };
    assert_eq!(info.domain, "sessiond");
    let trailer = status.metadata().get("sessiond-reason").map(|reason| reason.to_str().expect("plain text"));
    assert_eq!(trailer, Some(&info.reason[..]), "the trailer repeats the reason");
    info.reason
}
