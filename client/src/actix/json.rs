//! actix-session's state, a map of JSON texts, and a session's data.

use anyhow::{Context, Error};
use prost_types::{ListValue, Struct, Value as Wire, value::Kind};
use sessiond_proto::RawStruct;

use super::State;
use crate::{
    Map,
    value::{INTEGER, decode, encode},
};

/// The data that this state is kept as.
pub(super) fn data(state: State) -> Result<Map, Error> {
    let fields = state.into_iter().map(|(key, json)| {
        let value = serde_json::from_str(&json).with_context(|| format!("the value of {key:?} is not JSON"))?;
        Ok((key, wire(value)?))
    });
    let fields = fields.collect::<Result<_, Error>>()?;
    Ok(decode(RawStruct::from(Struct { fields }))?)
}

/// The state that this data is.
pub(super) fn state(data: &Map) -> Result<State, Error> {
    let fields = encode(data).decode()?.fields;
    Ok(fields.into_iter().map(|(key, value)| (key, json(value).to_string())).collect())
}

fn wire(value: serde_json::Value) -> Result<Wire, Error> {
    let kind = match value {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(value) => Kind::BoolValue(value),
        serde_json::Value::Number(number) => return self::number(&number),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(items) => {
            Kind::ListValue(ListValue { values: items.into_iter().map(wire).collect::<Result<_, _>>()? })
        }
        serde_json::Value::Object(fields) => {
            let fields =
                fields.into_iter().map(|(name, value)| Ok((name, wire(value)?))).collect::<Result<_, Error>>()?;
            Kind::StructValue(Struct { fields })
        }
    };
    Ok(Wire { kind: Some(kind) })
}

/// A double, or the tagged text of a whole number that no double can be trusted with.
fn number(number: &serde_json::Number) -> Result<Wire, Error> {
    let whole = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
    let kind = match whole {
        Some(large) if large.unsigned_abs() > 1 << 53 => {
            let text = Wire { kind: Some(Kind::StringValue(large.to_string())) };
            Kind::StructValue(Struct { fields: [(INTEGER.to_owned(), text)].into() })
        }
        _ => Kind::NumberValue(number.as_f64().context("a number that is none")?),
    };
    Ok(Wire { kind: Some(kind) })
}

fn json(value: Wire) -> serde_json::Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        // As JSON writes it: a whole number has no point.
        Some(Kind::NumberValue(number)) if number.fract() == 0.0 && number.abs() <= 2f64.powi(53) => {
            (number as i64).into()
        }
        Some(Kind::NumberValue(number)) => number.into(),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(json).collect(),
        Some(Kind::StructValue(object)) => match large(&object) {
            Some(number) => number,
            None => object.fields.into_iter().map(|(name, value)| (name, json(value))).collect(),
        },
    }
}

/// The whole number that this object is the tagged text of, if JSON's readers have a type for it.
fn large(object: &Struct) -> Option<serde_json::Value> {
    let Some(Kind::StringValue(text)) = &object.fields.get(INTEGER).filter(|_| object.fields.len() == 1)?.kind else {
        return None;
    };
    text.parse::<i64>().map(Into::into).or_else(|_| text.parse::<u64>().map(Into::into)).ok()
}
