//! Decodes protobuf, in which some clients such as `kubectl create` send built-in objects. Answers are always JSON,
//! which these clients accept as well.
//!
//! Protobuf identifies fields by numbers. `messages.txt` lists the names.

mod wire;

use std::collections::BTreeMap;
use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Map, Value};

use wire::{FieldContent, FieldReader};

/// The first bytes of an encoded object.
const MAGIC: &[u8] = b"k8s\0";
/// The deepest nesting of messages. The messages of the API are nested at most half as deep.
const MAX_DEPTH: usize = 64;

static MESSAGES: LazyLock<BTreeMap<&'static str, Message>> =
    LazyLock::new(|| parse_messages(include_str!("messages.txt")));

type Message = BTreeMap<u64, Field>;

#[derive(Debug, Clone, Copy)]
struct Field {
    name: &'static str,
    kind: &'static str,
    shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    One,
    /// A single value that is kept even if it is zero.
    Present,
    Many,
    Map,
    /// A message whose fields are fields of the outer message.
    Inline,
}

fn parse_messages(text: &'static str) -> BTreeMap<&'static str, Message> {
    let mut messages: BTreeMap<&'static str, Message> = BTreeMap::new();
    let mut current = "";
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some(field) = line.strip_prefix(' ') else {
            current = line;
            continue;
        };
        let mut words = field.split(' ');
        let (Some(number), Some(name), Some(kind)) = (words.next(), words.next(), words.next()) else { continue };
        let Ok(number) = number.parse() else { continue };
        let (kind, shape) = [("[]", Shape::Many), ("{}", Shape::Map), ("^", Shape::Inline), ("?", Shape::Present)]
            .into_iter()
            .find_map(|(mark, shape)| Some((kind.strip_suffix(mark)?, shape)))
            .unwrap_or((kind, Shape::One));
        messages.entry(current).or_default().insert(number, Field { name, kind, shape });
    }
    messages
}

/// Decodes an object. The error tells what is wrong with it.
pub fn decode(bytes: &[u8]) -> Result<Value, String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("provided data does not appear to be a protobuf message")?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in FieldReader::new(rest) {
        match field? {
            (1, FieldContent::Bytes(meta)) => {
                for field in FieldReader::new(meta) {
                    match field? {
                        (1, FieldContent::Bytes(text)) => api_version = utf8(text)?,
                        (2, FieldContent::Bytes(text)) => kind = utf8(text)?,
                        _ => {}
                    }
                }
            }
            (2, FieldContent::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let name = message_name(&api_version, &kind).ok_or_else(|| {
        format!("protobuf is not supported for kind {kind:?} of version {api_version:?}; send application/json")
    })?;
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    decode_message(name, raw, &mut object, 0)?;
    Ok(Value::Object(object))
}

fn message_name(api_version: &str, kind: &str) -> Option<&'static str> {
    let group = match api_version.split_once('/') {
        None => "core",
        Some((group, _)) => group.split('.').next().unwrap_or_default(),
    };
    let group = if kind == "DeleteOptions" { "meta" } else { group };
    let group = if group == "rbac" || group == "authorization" { group } else { group.trim_end_matches(".k8s.io") };
    MESSAGES.keys().find(|name| name.split_once('.') == Some((group, kind))).copied()
}

fn utf8(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())
}

fn decode_message(name: &str, bytes: &[u8], into: &mut Map<String, Value>, depth: usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err("the message is nested too deeply".to_owned());
    }
    let Some(fields) = MESSAGES.get(name) else { return Ok(()) };
    for field in FieldReader::new(bytes) {
        let (number, content) = field?;
        let Some(field) = fields.get(&number) else { continue };
        match (field.shape, content) {
            (Shape::Inline, FieldContent::Bytes(bytes)) => decode_message(field.kind, bytes, into, depth + 1)?,
            (Shape::Map, FieldContent::Bytes(bytes)) => {
                let (key, value) = decode_entry(field.kind, bytes, depth)?;
                let map = into.entry(field.name).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(map) = map {
                    map.insert(key, value);
                }
            }
            (Shape::Many, content) => {
                let value = decode_value(field.kind, content, depth)?;
                let list = into.entry(field.name).or_insert_with(|| Value::Array(Vec::new()));
                if let Value::Array(list) = list {
                    list.push(value);
                }
            }
            (shape, content) => {
                let value = decode_value(field.kind, content, depth)?;
                // A zero that is not marked as present means that the field is not set.
                let zero = value == "" || value == 0 || value == false;
                let unset = value.is_null() || (zero && shape == Shape::One);
                if !unset {
                    into.insert(field.name.to_owned(), value);
                }
            }
        }
    }
    Ok(())
}

fn decode_entry(kind: &str, bytes: &[u8], depth: usize) -> Result<(String, Value), String> {
    let (mut key, mut found) = (String::new(), Value::from(""));
    for field in FieldReader::new(bytes) {
        match field? {
            (1, FieldContent::Bytes(text)) => key = utf8(text)?,
            (2, content) => found = decode_value(kind, content, depth)?,
            _ => {}
        }
    }
    Ok((key, found))
}

fn decode_value(kind: &str, content: FieldContent<'_>, depth: usize) -> Result<Value, String> {
    Ok(match (kind, content) {
        ("string", FieldContent::Bytes(bytes)) => utf8(bytes)?.into(),
        ("bytes", FieldContent::Bytes(bytes)) => base64(bytes).into(),
        ("raw", FieldContent::Bytes(bytes)) => {
            let inner = bytes_field(bytes, 1)?;
            if inner.is_empty() { Value::Null } else { serde_json::from_slice(inner).map_err(|e| e.to_string())? }
        }
        ("quantity", FieldContent::Bytes(bytes)) => utf8(bytes_field(bytes, 1)?)?.into(),
        ("time" | "microtime", FieldContent::Bytes(bytes)) => decode_time(kind, bytes)?,
        ("intorstring", FieldContent::Bytes(bytes)) => int_or_string(bytes)?,
        ("bool", FieldContent::Number(number)) => (number != 0).into(),
        // Negative numbers are sent in their 64-bit two's complement.
        (_, FieldContent::Number(number)) => number.cast_signed().into(),
        (name, FieldContent::Bytes(bytes)) => {
            let mut map = Map::new();
            decode_message(name, bytes, &mut map, depth + 1)?;
            Value::Object(map)
        }
    })
}

fn bytes_field(bytes: &[u8], wanted: u64) -> Result<&[u8], String> {
    for field in FieldReader::new(bytes) {
        if let (number, FieldContent::Bytes(bytes)) = field?
            && number == wanted
        {
            return Ok(bytes);
        }
    }
    Ok(&[])
}

fn decode_time(kind: &str, bytes: &[u8]) -> Result<Value, String> {
    let (mut seconds, mut nanoseconds, mut some) = (0_i64, 0_i32, false);
    for field in FieldReader::new(bytes) {
        match field? {
            (1, FieldContent::Number(number)) => (seconds, some) = (number.cast_signed(), true),
            (2, FieldContent::Number(number)) => nanoseconds = i32::try_from(number).unwrap_or_default(),
            _ => {}
        }
    }
    if !some {
        return Ok(Value::Null);
    }
    let nanoseconds = if kind == "time" { 0 } else { nanoseconds };
    let time = Timestamp::new(seconds, nanoseconds).map_err(|error| error.to_string())?;
    Ok(if kind == "time" { time.to_string() } else { format!("{time:.6}") }.into())
}

fn int_or_string(bytes: &[u8]) -> Result<Value, String> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    for field in FieldReader::new(bytes) {
        match field? {
            (1, FieldContent::Number(kind)) => is_text = kind == 1,
            (2, FieldContent::Number(given)) => number = given.cast_signed(),
            (3, FieldContent::Bytes(given)) => text = utf8(given)?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().enumerate().fold(0_u32, |group, (at, &byte)| group | u32::from(byte) << (16 - 8 * at));
        for at in 0..4 {
            let letter = usize::try_from((group >> (18 - 6 * at)) & 63).ok().and_then(|index| LETTERS.get(index));
            let letter = letter.filter(|_| at <= chunk.len()).map_or('=', |&letter| char::from(letter));
            text.push(letter);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Encodes a field that contains bytes.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        bytes.extend_from_slice(content);
        bytes
    }

    fn object(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [field(1, api_version.as_bytes()), field(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), field(1, &meta), field(2, raw)].concat()
    }

    #[test]
    fn encoded_object_is_decoded() {
        let metadata = [field(1, b"a"), field(3, b""), field(8, b"")].concat();
        let data = [field(1, b"key"), field(2, b"value")].concat();
        let map = object("v1", "Secret", &[field(1, &metadata), field(2, &data)].concat());
        let wanted =
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "data": {"key": "dmFsdWU="}});
        assert_eq!(decode(&map).unwrap(), wanted);
    }

    #[test]
    fn truncated_or_unknown_input_is_an_error() {
        let whole = object("v1", "ConfigMap", &field(1, &field(1, b"a")));
        for end in 0..whole.len() {
            let _ = decode(&whole[..end]);
        }
        assert!(decode(b"{}").is_err());
        assert!(decode(&object("v1", "Nothing", b"")).is_err());
        assert!(decode(&object("v1", "ConfigMap", &[0xff; 40])).is_err());
    }

    #[test]
    fn base64_is_padded() {
        assert_eq!([base64(b""), base64(b"f"), base64(b"fo"), base64(b"foo")], ["", "Zg==", "Zm8=", "Zm9v"]);
    }
}
