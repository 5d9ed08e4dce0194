//! Finds the path of the field at which a JSON parser stopped. It runs only for error messages, so its speed does not
//! matter.
//!
//! `serde_path_to_error` would track the path during the parse of every line, which costs too much: see
//! [`super::reading`].

use std::fmt::Write as _;

/// An object or a list that contains the position.
enum Container {
    /// The key whose value is being read, if it has been read.
    Object(Option<String>),
    /// The index of the current item.
    List(usize),
}

/// Returns the path of the value that ends at or contains the byte `end`, such as `partitions[3].end`; empty for the
/// whole line.
pub(super) fn path_at(line: &[u8], end: usize) -> String {
    let mut containers: Vec<Container> = Vec::new();
    let mut text: Option<String> = None;
    let mut escaped = false;
    let mut awaits_key = false;
    for byte in line.iter().take(end) {
        if let Some(characters) = text.as_mut() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    if awaits_key && let Some(Container::Object(key)) = containers.last_mut() {
                        *key = text.take();
                        awaits_key = false;
                    }
                    text = None;
                }
                // Known names are ASCII; an unknown one must only be recognizable.
                byte if characters.len() < 60 => characters.push(char::from(*byte)),
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => text = Some(String::new()),
            b'{' => {
                containers.push(Container::Object(None));
                awaits_key = true;
            }
            b'[' => containers.push(Container::List(0)),
            b'}' | b']' => {
                containers.pop();
                awaits_key = false;
            }
            b',' => match containers.last_mut() {
                Some(Container::Object(key)) => {
                    *key = None;
                    awaits_key = true;
                }
                Some(Container::List(index)) => *index += 1,
                None => {}
            },
            _ => {}
        }
    }
    let mut path = String::new();
    for step in &containers {
        match step {
            Container::Object(Some(key)) => {
                let dot = if path.is_empty() { "" } else { "." };
                let _ = write!(path, "{dot}{key}");
            }
            Container::Object(None) => {}
            Container::List(index) => {
                let _ = write!(path, "[{index}]");
            }
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_path_leads_to_the_value() {
        let line = br#"{"a":1,"b":[{"c":2},{"d":"x,\"y","e":[3,4]}],"f":5}"#;
        for (needle, expected) in
            [("1,", "a"), ("2}", "b[0].c"), ("x,", "b[1].d"), ("3,", "b[1].e[0]"), ("4]", "b[1].e[1]"), ("5}", "f")]
        {
            let at = line.windows(2).position(|window| window == needle.as_bytes()).unwrap();
            assert_eq!(path_at(line, at), expected, "{needle}");
        }
        assert_eq!(path_at(line, 0), "");
        assert_eq!(path_at(b"]]}},,\"", 7), "", "invalid JSON has no path");
    }
}
