//! The grammar: `load = sum {("|" | "then") sum}`, `sum = shape {"+" shape}`, `shape = name "(" value {"," value} ")"`.

use super::{Kind, Load, MOST_POINTS, SHAPES, Shape, ShapeError};
use sluice_base::text::truncate;

/// Largest rate and longest time that are accepted.
const MOST_RATE: f64 = 1e12;
const MOST_SECONDS: f64 = 3600.0 * 24.0 * 366.0;
/// Shortest time, seconds: a shorter one could not be distinguished from a jump.
const LEAST_SECONDS: f64 = 0.01;
/// Most shapes: a line is written by hand.
const MOST_SHAPES: usize = 1000;

/// A word of the text, and where it begins, in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    text: String,
    column: usize,
}

/// Parses a load.
pub(super) fn parse(text: &str) -> Result<Load, ShapeError> {
    let mut parser = Parser { text, words: words(text), next: 0 };
    let mut parts = vec![parser.sum()?];
    let mut count = 0;
    while let Some(word) = parser.next_word() {
        if word.text != "|" && word.text != "then" {
            return Err(parser.wrong(word.column, &format!("expected |, then, + or the end, found `{}`", brief(&word))));
        }
        count += 1;
        if count > MOST_SHAPES {
            return Err(parser.wrong(word.column, "expected at most 1000 shapes"));
        }
        parts.push(parser.sum()?);
    }
    let load = Load { parts };
    let size: f64 = load.parts.iter().flatten().map(Shape::size).sum();
    if load.seconds() > MOST_SECONDS || size > MOST_POINTS {
        let what = "expected a load of at most a year, with at most a million corners";
        return Err(parser.wrong(0, what));
    }
    Ok(load)
}

/// Splits the text into signs and the words between them and spaces.
fn words(text: &str) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    let mut open = false;
    for (column, letter) in text.chars().enumerate() {
        let sign = matches!(letter, '(' | ')' | ',' | '+' | '|');
        match words.last_mut() {
            Some(word) if open && !sign && !letter.is_whitespace() => word.text.push(letter),
            _ if letter.is_whitespace() => {}
            _ => words.push(Word { text: letter.into(), column }),
        }
        open = !sign && !letter.is_whitespace();
    }
    words
}

struct Parser<'a> {
    text: &'a str,
    words: Vec<Word>,
    next: usize,
}

impl Parser<'_> {
    fn next_word(&mut self) -> Option<Word> {
        let word = self.words.get(self.next).cloned();
        self.next += usize::from(word.is_some());
        word
    }

    fn wrong(&self, column: usize, message: &str) -> ShapeError {
        // One line, and one column for each character, so that the caret points at the right place.
        let text = self.text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        ShapeError { text, column, message: message.to_owned() }
    }

    /// Returns the next word, or an error at the end of the text.
    fn expect(&mut self, what: &str) -> Result<Word, ShapeError> {
        let end = self.text.trim_end().chars().count();
        self.next_word().ok_or_else(|| self.wrong(end, &format!("expected {what}, found the end")))
    }

    fn sign(&mut self, sign: &str, what: &str) -> Result<(), ShapeError> {
        let word = self.expect(what)?;
        if word.text == sign {
            return Ok(());
        }
        Err(self.wrong(word.column, &format!("expected {what}, found `{}`", brief(&word))))
    }

    fn sum(&mut self) -> Result<Vec<Shape>, ShapeError> {
        let mut shapes = vec![self.shape()?];
        while let Some(word) = self.words.get(self.next).filter(|word| word.text == "+") {
            let column = word.column;
            self.next += 1;
            if shapes.len() >= MOST_SHAPES {
                return Err(self.wrong(column, "expected at most 1000 shapes"));
            }
            shapes.push(self.shape()?);
        }
        Ok(shapes)
    }

    fn shape(&mut self) -> Result<Shape, ShapeError> {
        let name = self.expect("a shape")?;
        let form = SHAPES.iter().find(|form| form.split('(').next() == Some(name.text.as_str()));
        let Some(form) = form else {
            return Err(self.wrong(name.column, &format!("expected a shape, found `{}`", brief(&name))));
        };
        let parameters: Vec<&str> =
            form.split(['(', ',', ')']).skip(1).filter(|parameter| !parameter.is_empty()).collect();
        let mut values = Vec::with_capacity(parameters.len());
        for (index, parameter) in parameters.iter().enumerate() {
            let sign = if index == 0 { "(" } else { "," };
            self.sign(sign, &format!("`{sign}` and {parameter} of {form}"))?;
            let word = self.expect(&format!("{parameter} of {form}"))?;
            let value = if is_time(parameter) { time(&word.text) } else { rate(&word.text) };
            let value = value.map_err(|what| {
                self.wrong(word.column, &format!("expected {what} as {parameter} of {form}, found `{}`", brief(&word)))
            })?;
            values.push((value, word.column));
        }
        self.sign(")", &format!("`)` at the end of {form}"))?;
        build(&name.text, &values).map_err(|(column, message)| self.wrong(column, &message))
    }
}

fn brief(word: &Word) -> String {
    truncate(&word.text, 40)
}

fn is_time(parameter: &str) -> bool {
    matches!(parameter, "FOR" | "AT" | "PERIOD" | "LENGTH" | "OFF" | "ON")
}

fn time(text: &str) -> Result<f64, &'static str> {
    let parsed = sluice_base::duration::parse(text);
    let seconds = parsed.map(|duration| duration.as_secs_f64());
    let seconds = seconds.ok_or("a time such as 30s, 10m or 1h30m")?;
    if (LEAST_SECONDS..=MOST_SECONDS).contains(&seconds) { Ok(seconds) } else { Err("a time between 10ms and a year") }
}

/// Parses a rate in records per second, such as `200`, `5k`, `1.5M` or `5k/s`; the error names what was expected.
pub fn rate(text: &str) -> Result<f64, &'static str> {
    let text = text.strip_suffix("/s").unwrap_or(text);
    let (number, unit) = match text.chars().next_back() {
        Some('k' | 'K') => (text.get(..text.len() - 1), 1e3),
        Some('M') => (text.get(..text.len() - 1), 1e6),
        Some('G') => (text.get(..text.len() - 1), 1e9),
        _ => (Some(text), 1.0),
    };
    let number = number.and_then(|number| number.parse::<f64>().ok()).filter(|number| number.is_finite());
    let rate = number.ok_or("records per second such as 200, 5k or 1.5M")? * unit;
    if (0.0..=MOST_RATE).contains(&rate) { Ok(rate) } else { Err("records per second from 0 to 1000G") }
}

/// Builds a shape from its values, and checks what must hold between them.
fn build(name: &str, values: &[(f64, usize)]) -> Result<Shape, (usize, String)> {
    let value = |index: usize| values.get(index).map_or(0.0, |(value, _)| *value);
    let column = |index: usize| values.get(index).map_or(0, |(_, column)| *column);
    let seconds = values.last().map_or(0.0, |(value, _)| *value);
    let kind = match name {
        "constant" => Kind::Constant { rate: value(0) },
        "step" => Kind::Step { from: value(0), to: value(1), at: value(2) },
        "ramp" => Kind::Ramp { from: value(0), to: value(1) },
        "sine" => Kind::Sine { mean: value(0), amplitude: value(1), period: value(2) },
        "spike" => Kind::Spike { base: value(0), peak: value(1), at: value(2), length: value(3) },
        _ => Kind::OnOff { low: value(0), high: value(1), off: value(2), on: value(3) },
    };
    let wrong = match kind {
        Kind::Step { at, .. } if at >= seconds => Some((2, "AT before the end, FOR")),
        Kind::Sine { mean, amplitude, .. } if amplitude > mean => {
            Some((1, "an AMPLITUDE of at most MEAN, as no rate is below 0"))
        }
        Kind::Spike { at, length, .. } if at + length > seconds => Some((2, "AT and LENGTH within FOR")),
        _ => None,
    };
    match wrong {
        Some((index, message)) => Err((column(index), format!("expected {message}"))),
        None => Ok(Shape { kind, seconds }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn error_points_at_the_mistake() {
        for (text, column, message) in [
            ("", 0, "expected a shape, found the end"),
            ("   ", 0, "expected a shape, found the end"),
            ("wave(1,2)", 0, "expected a shape, found `wave`"),
            ("constant(5k,1h) | wave(1,2)", 18, "expected a shape, found `wave`"),
            ("constant", 8, "expected `(` and RATE of constant(RATE,FOR), found the end"),
            ("constant[5k,1h]", 0, "expected a shape, found `constant[5k`"),
            ("constant(5k)", 11, "expected `,` and FOR of constant(RATE,FOR), found `)`"),
            ("constant(5k,1h,3)", 14, "expected `)` at the end of constant(RATE,FOR), found `,`"),
            (
                "constant(5k,ten)",
                12,
                "expected a time such as 30s, 10m or 1h30m as FOR of constant(RATE,FOR), found `ten`",
            ),
            (
                "constant(1h,5k)",
                9,
                "expected records per second such as 200, 5k or 1.5M as RATE of constant(RATE,FOR), found `1h`",
            ),
            ("constant(-5,1h)", 9, "expected records per second from 0 to 1000G"),
            ("constant(1e400,1h)", 9, "expected records per second such as"),
            ("constant(NaN,1h)", 9, "expected records per second such as"),
            ("constant(5,0s)", 11, "expected a time between 10ms and a year"),
            ("constant(5,-1h)", 11, "expected a time such as"),
            ("constant(5,1h) constant(5,1h)", 15, "expected |, then, + or the end, found `constant`"),
            ("constant(5,1h) |", 16, "expected a shape, found the end"),
            ("constant(5,1h) + | constant(5,1h)", 17, "expected a shape, found `|`"),
            ("step(1,2,2h,1h)", 9, "expected AT before the end, FOR"),
            ("sine(1k,2k,1m,1h)", 8, "expected an AMPLITUDE of at most MEAN"),
            ("spike(1,2,50m,20m,1h)", 10, "expected AT and LENGTH within FOR"),
            ("onoff(0,1,10ms,10ms,8000h)", 0, "expected a load of at most a year, with at most a million corners"),
            ("größe(1,2)", 0, "expected a shape, found `größe`"),
        ] {
            let error = text.parse::<Load>().unwrap_err();
            assert!(error.message.starts_with(message), "{text}: {}", error.message);
            assert_eq!(error.column, column, "{text}: {}", error.message);
        }
    }

    #[test]
    fn error_has_a_caret_and_lists_the_shapes() {
        let error = "constant(5k,1h) |\tñandú(1,2)".parse::<Load>().unwrap_err().to_string();
        let lines: Vec<&str> = error.lines().collect();
        assert_eq!(lines[1], "  constant(5k,1h) | ñandú(1,2)");
        assert_eq!(lines[2], "                    ^");
        assert!(lines[3].contains("spike(BASE,PEAK,AT,LENGTH,FOR)"), "{error}");
    }

    #[test]
    fn spaces_and_units_are_flexible() {
        let plain: Load = "sine(5k,2k,10m,1h)|constant(1M,30s)".parse().unwrap();
        for text in
            [" sine( 5000 , 2K/s ,600s, 60m )  then constant(1000k,0.5m) ", "sine(5k/s,2e3,10m,1h0m)|constant(1M,30s)"]
        {
            assert_eq!(text.parse::<Load>().unwrap(), plain, "{text}");
        }
    }

    /// Generates words of the language in any order: far more of these parse than of arbitrary text.
    fn pieces() -> impl Strategy<Value = String> {
        let words = [
            "constant", "step", "ramp", "sine", "spike", "onoff", "(", ")", ",", "+", "|", " then ", "5k", "0", "1M",
            "-1", "1e308", "10m", "1h", "0s", "é", " ",
        ];
        proptest::collection::vec(proptest::sample::select(words.to_vec()), 0..40).prop_map(|words| words.concat())
    }

    fn whole_shapes() -> impl Strategy<Value = String> {
        let rate = || proptest::sample::select(vec!["0", "1", "5k", "1M", "0.5"]);
        let time = || proptest::sample::select(vec!["500ms", "1s", "17s", "1m", "1h"]);
        let shape = (0..6_usize, rate(), rate(), time(), time(), time()).prop_map(|(kind, a, b, s, t, u)| match kind {
            0 => format!("constant({a},{u})"),
            1 => format!("step({a},{b},{s},{u})"),
            2 => format!("ramp({a},{b},{u})"),
            3 => format!("sine({a},{b},{t},{u})"),
            4 => format!("spike({a},{b},{s},{t},{u})"),
            _ => format!("onoff({a},{b},{s},{t},{u})"),
        });
        let sign = proptest::sample::select(vec!["|", "+", " then "]);
        proptest::collection::vec((shape, sign), 1..6).prop_map(|shapes| {
            shapes.into_iter().fold(
                String::new(),
                |text, (shape, sign)| {
                    if text.is_empty() { shape } else { text + sign + &shape }
                },
            )
        })
    }

    proptest! {
        #[test]
        fn parser_never_panics(text in prop_oneof![".{0,80}", pieces(), whole_shapes()]) {
            match text.parse::<Load>() {
                Ok(load) => {
                    let points = load.points();
                    prop_assert!(points.windows(2).all(|pair| pair[0].0 < pair[1].0), "{text}");
                    let again: Load = load.to_string().parse().map_err(|error: ShapeError| TestCaseError::fail(error.to_string()))?;
                    prop_assert_eq!(again, load, "{}", text);
                    prop_assert!(points.iter().all(|(at, rate)| at.is_finite() && *rate >= 0.0 && rate.is_finite()));
                }
                Err(error) => {
                    prop_assert!(error.column <= text.chars().count());
                    prop_assert!(error.to_string().contains('^'));
                }
            }
        }
    }
}
