//! Python's objects and the values that a session keeps.
//!
//! What Flask's `TaggedJSONSerializer` holds comes back the same: tuples, bytes, UUIDs, dates and times, markup; and integers
//! of any size. Everything else is refused with a word about where it is, and nothing is ever pickled. Dictionaries come back
//! in the order of their keys.

use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple, PyType},
};
use sessiond_client::{
    Map, Value,
    value::{Integer, as_integer},
};

use crate::errors::unsupported;

/// The service takes 48 levels of lists at most. This ends what holds itself.
const DEEPEST: usize = 100;

static DATETIME: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static UUID: PyOnceLock<Py<PyType>> = PyOnceLock::new();
/// `None` where there is no markupsafe.
static MARKUP: PyOnceLock<Option<Py<PyAny>>> = PyOnceLock::new();

/// Why an object cannot be kept, and where it is: the path from the outside in.
pub(crate) struct Refused {
    path: Vec<String>,
    why: Why,
}

enum Why {
    /// In words.
    Said(String),
    /// Python raised something: a subclass with ideas of its own, or memory.
    Raised(PyErr),
}

type Kept<T> = Result<T, Refused>;

impl Refused {
    fn because(why: impl Into<String>) -> Self {
        Self { path: Vec::new(), why: Why::Said(why.into()) }
    }

    fn within(mut self, place: impl FnOnce() -> String) -> Self {
        self.path.push(place());
        self
    }

    fn at_key(self, key: &str) -> Self {
        self.within(|| format!("[{key:?}]"))
    }

    /// The exception. `name` is what the whole is called.
    pub(crate) fn raise(self, py: Python<'_>, name: &str) -> PyErr {
        match self.why {
            Why::Raised(error) => error,
            Why::Said(why) => {
                let path: String = self.path.into_iter().rev().collect();
                unsupported(py, &format!("{name}{path}: {why}"))
            }
        }
    }
}

impl From<PyErr> for Refused {
    fn from(error: PyErr) -> Self {
        Self { path: Vec::new(), why: Why::Raised(error) }
    }
}

/// The entries of a session's data.
pub(crate) fn read_entries(data: &Bound<'_, PyDict>) -> Kept<Map> {
    entries(data, 0)
}

/// The value that a session keeps for this object.
pub(crate) fn read(object: &Bound<'_, PyAny>) -> Kept<Value> {
    value(object, 0)
}

fn value(object: &Bound<'_, PyAny>, depth: usize) -> Kept<Value> {
    // The plain types first: mostly it is one of these.
    if let Ok(text) = object.cast_exact::<PyString>() {
        return Ok(Value::String(string(text)?));
    }
    if object.is_none() {
        return Ok(Value::Null);
    }
    if let Ok(bool) = object.cast_exact::<PyBool>() {
        return Ok(Value::Bool(bool.is_true()));
    }
    if let Ok(integer) = object.cast_exact::<PyInt>() {
        return self::integer(integer);
    }
    if let Ok(float) = object.cast_exact::<PyFloat>() {
        return Ok(self::float(float.value()));
    }
    if depth == DEEPEST {
        return Err(Refused::because(format!("nests deeper than {DEEPEST} levels, or holds itself")));
    }
    if let Ok(dict) = object.cast::<PyDict>() {
        return Ok(Value::Map(entries(dict, depth + 1)?));
    }
    if let Ok(list) = object.cast::<PyList>() {
        return Ok(Value::List(items(list.iter(), depth + 1)?));
    }
    if let Ok(tuple) = object.cast::<PyTuple>() {
        return Ok(Value::Tuple(items(tuple.iter(), depth + 1)?));
    }
    if let Ok(bytes) = object.cast::<PyBytes>() {
        return Ok(Value::Bytes(bytes.as_bytes().to_vec()));
    }
    unusual(object)
}

/// What is none of JSON's own.
fn unusual(object: &Bound<'_, PyAny>) -> Kept<Value> {
    let py = object.py();
    if object.is_instance(DATETIME.import(py, "datetime", "datetime")?)? {
        let text = object.call_method0("isoformat")?;
        let text = string(text.cast::<PyString>().map_err(PyErr::from)?)?;
        let date_time = text.parse().map_err(|_| Refused::because("a datetime that isoformat() does not spell"))?;
        return Ok(Value::DateTime(date_time));
    }
    if object.is_instance(UUID.import(py, "uuid", "UUID")?)? {
        let hex: String = object.getattr("hex")?.extract()?;
        return hex.parse().map(Value::Uuid).map_err(|_| Refused::because("a UUID whose hex is none"));
    }
    // As Flask tells markup: by what it can do, and turned into text by it.
    if let Some(html) = object.getattr_opt("__html__")?.filter(Bound::is_callable) {
        return Ok(Value::Markup(string(&html.call0()?.str()?)?));
    }
    // Subclasses, an IntEnum for one, are kept as what they are below.
    if let Ok(text) = object.cast::<PyString>() {
        return Ok(Value::String(string(text)?));
    }
    if let Ok(integer) = object.cast::<PyInt>() {
        return self::integer(integer);
    }
    if let Ok(float) = object.cast::<PyFloat>() {
        return Ok(self::float(float.value()));
    }
    let kind = object.get_type().name()?;
    Err(Refused::because(format!(
        "a session keeps None, bool, int, float, str, bytes, list, tuple, dict, datetime, UUID and Markup, and no {kind}: \
         make it one of these"
    )))
}

fn string(text: &Bound<'_, PyString>) -> Kept<String> {
    let text =
        text.to_cow().map_err(|_| Refused::because("text that is no Unicode: it holds half a surrogate pair"))?;
    Ok(text.into_owned())
}

/// The value of a float, in the one form in which it is read back.
fn float(float: f64) -> Value {
    let plain = float.is_finite() && as_integer(float).is_none();
    if plain { Value::Number(float) } else { Value::Float(float) }
}

fn integer(integer: &Bound<'_, PyInt>) -> Kept<Value> {
    let too_long = |_| Refused::because(format!("an integer of more than {} digits", Integer::MAX_DIGITS));
    if let Ok(small) = integer.extract::<i64>() {
        let plain = small as f64;
        let exact = as_integer(plain) == Some(small);
        return Ok(if exact { Value::Number(plain) } else { Value::Integer(small.into()) });
    }
    // The type's own, since a subclass may print a name.
    let digits = integer.py().get_type::<PyInt>().call_method1("__repr__", (integer,)).map_err(too_long)?;
    let digits: String = digits.extract()?;
    digits.parse().map(Value::Integer).map_err(|_| too_long(PyErr::fetch(integer.py())))
}

fn items<'py>(items: impl Iterator<Item = Bound<'py, PyAny>>, depth: usize) -> Kept<Vec<Value>> {
    let place = |index: usize| move || format!("[{index}]");
    items.enumerate().map(|(index, item)| value(&item, depth).map_err(|no| no.within(place(index)))).collect()
}

fn entries(dict: &Bound<'_, PyDict>, depth: usize) -> Kept<Map> {
    let entry = |(name, item): (Bound<'_, PyAny>, Bound<'_, PyAny>)| {
        let Ok(text) = name.cast::<PyString>() else {
            let kind = name.get_type().name()?;
            return Err(Refused::because(format!("a key must be a str, and not {kind}: say str(key)")));
        };
        let name = string(text)?;
        let value = value(&item, depth).map_err(|no| no.at_key(&name))?;
        Ok((name, value))
    };
    dict.iter().map(entry).collect()
}

/// A session's data as a dictionary.
pub(crate) fn write_entries<'py>(py: Python<'py>, map: &Map) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (name, value) in map {
        dict.set_item(name, write(py, value)?)?;
    }
    Ok(dict)
}

/// The object for a value.
pub(crate) fn write<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::Null => py.None().into_bound(py),
        Value::Bool(bool) => PyBool::new(py, *bool).to_owned().into_any(),
        Value::Number(number) => match as_integer(*number) {
            Some(integer) => integer.into_pyobject(py)?.into_any(),
            None => PyFloat::new(py, *number).into_any(),
        },
        Value::Float(float) => PyFloat::new(py, *float).into_any(),
        Value::Integer(integer) => py.get_type::<PyInt>().call1((integer.as_str(),))?,
        Value::String(text) => PyString::new(py, text).into_any(),
        Value::Bytes(bytes) => PyBytes::new(py, bytes).into_any(),
        Value::List(items) => PyList::new(py, all(py, items)?)?.into_any(),
        Value::Tuple(items) => PyTuple::new(py, all(py, items)?)?.into_any(),
        Value::Map(map) => write_entries(py, map)?.into_any(),
        Value::Markup(html) => markup(py, html)?,
        Value::Uuid(uuid) => UUID.import(py, "uuid", "UUID")?.call1((uuid.simple().to_string(),))?,
        Value::DateTime(date_time) => {
            let text = for_python(date_time.as_str());
            DATETIME.import(py, "datetime", "datetime")?.call_method1("fromisoformat", (text,))?
        }
        _ => return Err(unsupported(py, "a value of a kind that this version does not know: install a newer one")),
    })
}

fn all<'py>(py: Python<'py>, values: &[Value]) -> PyResult<Vec<Bound<'py, PyAny>>> {
    values.iter().map(|value| write(py, value)).collect()
}

/// Text where there is no markupsafe: then nobody here takes it for HTML.
fn markup<'py>(py: Python<'py>, html: &str) -> PyResult<Bound<'py, PyAny>> {
    let class = MARKUP.get_or_init(py, || Some(py.import("markupsafe").ok()?.getattr("Markup").ok()?.unbind()));
    match class {
        Some(class) => class.bind(py).call1((html,)),
        None => Ok(PyString::new(py, html).into_any()),
    }
}

/// A date and time as every Python's `fromisoformat` reads it: before 3.11 that knows no `Z`, and no fraction of a second but in
/// three or six digits.
fn for_python(text: &str) -> String {
    let text = text.replace('Z', "+00:00");
    let mut parts = text.split('.');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        let (fraction, rest) = part.split_at(digits);
        whole.push_str(&format!(".{fraction:0<6}{rest}"));
    }
    whole
}
