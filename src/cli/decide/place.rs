//! Where in a line of JSON a parser stopped: for the message, so it may be slow.

use std::fmt::Write as _;

enum Inside {
    /// The key whose value is being read, once it is known.
    Object(Option<String>),
    List(usize),
}

/// The path of the value that ends at, or holds, the byte `end`, such as `partitions[3].end`; empty for the whole line.
pub(super) fn path(line: &[u8], end: usize) -> String {
    let mut inside: Vec<Inside> = Vec::new();
    let mut text: Option<String> = None;
    let mut escaped = false;
    let mut awaits_key = false;
    for byte in line.iter().take(end) {
        if let Some(word) = text.as_mut() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    if awaits_key && let Some(Inside::Object(key)) = inside.last_mut() {
                        *key = text.take();
                        awaits_key = false;
                    }
                    text = None;
                }
                // Names are plain; a strange one only has to be recognised.
                byte if word.len() < 60 => word.push(char::from(*byte)),
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => text = Some(String::new()),
            b'{' => {
                inside.push(Inside::Object(None));
                awaits_key = true;
            }
            b'[' => inside.push(Inside::List(0)),
            b'}' | b']' => {
                inside.pop();
                awaits_key = false;
            }
            b',' => match inside.last_mut() {
                Some(Inside::Object(key)) => {
                    *key = None;
                    awaits_key = true;
                }
                Some(Inside::List(index)) => *index += 1,
                None => {}
            },
            _ => {}
        }
    }
    let mut path = String::new();
    for step in &inside {
        match step {
            Inside::Object(Some(key)) => {
                let dot = if path.is_empty() { "" } else { "." };
                let _ = write!(path, "{dot}{key}");
            }
            Inside::Object(None) => {}
            Inside::List(index) => {
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
    fn the_path_leads_to_the_value() {
        let line = br#"{"a":1,"b":[{"c":2},{"d":"x,\"y","e":[3,4]}],"f":5}"#;
        for (needle, expected) in
            [("1,", "a"), ("2}", "b[0].c"), ("x,", "b[1].d"), ("3,", "b[1].e[0]"), ("4]", "b[1].e[1]"), ("5}", "f")]
        {
            let at = line.windows(2).position(|window| window == needle.as_bytes()).unwrap();
            assert_eq!(path(line, at), expected, "{needle}");
        }
        assert_eq!(path(line, 0), "");
        assert_eq!(path(b"]]}},,\"", 7), "", "what is not JSON has no path, and does no harm");
    }
}
