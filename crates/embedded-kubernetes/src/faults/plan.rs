//! Fault plans: values that can be printed, parsed and shortened.
//!
//! A plan is a text of words, one for each fault: `[LIFE/]ACT[:RESOURCE][#WHICH]=HARM`. `patch#3=crash` crashes the
//! client right after its third patch. `2/list:pods#1=at(57) 2/watch=stall(20)` shows the client, in its second life,
//! the pods as of revision 57, and nothing newer for 20 seconds.

use std::fmt;
use std::str::FromStr;

/// A list of faults. If several match the same request, the first is injected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan(pub Vec<Fault>);

/// A planned fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The requests that the fault matches.
    pub asked: Asked,
    /// The effect on these requests.
    pub harm: Harm,
}

/// A pattern for requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The life of the client, counted from 1. `None`: any.
    pub life: Option<u32>,
    /// The kind of request.
    pub act: Act,
    /// The plural, and the subresource if any: `deployments/scale`. `None`: any.
    pub resource: Option<String>,
    /// The number of the first matching request that is affected, counted from 1.
    pub from: u32,
    /// The number of the last matching request that is affected.
    pub to: u32,
}

/// The kinds of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Any request.
    Any,
    /// Any request that changes something.
    Write,
    /// GET of an object.
    Get,
    /// GET of a collection.
    List,
    /// A watch of a collection.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
}

/// The effect of a fault. Times are in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// The request is done, and the client crashes before it gets the answer.
    Crash,
    /// The client crashes, and the request is not done.
    CrashBefore,
    /// The client crashes, and the request is done this many seconds later.
    CrashLate(u32),
    /// The request is done, and the connection breaks before the answer.
    Lost,
    /// The connection breaks, and the request is done this many seconds later.
    Late(u32),
    /// The connection breaks, and the request is not done.
    Reset,
    /// The request is not done and never answered.
    Silent,
    /// The request is done and answered this many seconds later.
    Delay(u32),
    /// The request is not done and answered with this code. 429 and 503 ask the client to retry after a second.
    Refuse(u16),
    /// A list that accepts any version shows this revision, like a server whose cache lags behind.
    At(u64),
    /// A stream breaks after this many lines, in the middle of the next one.
    Cut(u32),
    /// A stream is silent for this many seconds; then it sends what has happened meanwhile.
    Stall(u32),
    /// A stream sends what is newer than this revision only after this many seconds, like a cache that lags behind.
    Hold(u64, u32),
    /// A stream sends what is newer than the first revision only when the store has reached the second, or after 10
    /// seconds, like a cache that other sources overtake.
    Overtaken(u64, u64),
    /// Each line of a stream is sent twice.
    Twice,
    /// A list, or a stream in its first line, reports that the version has expired: 410.
    Expire,
    /// A stream is silent from the first revision on. At the second revision, or after 30 seconds, it expires, so that
    /// the client never sees the changes in between.
    Gap(u64, u64),
}

impl Plan {
    /// Creates a plan with one fault.
    pub fn one(asked: Asked, harm: Harm) -> Self {
        Self(vec![Fault { asked, harm }])
    }

    /// Adds a fault to the plan.
    #[must_use]
    pub fn and(mut self, asked: Asked, harm: Harm) -> Self {
        self.0.push(Fault { asked, harm });
        self
    }
}

impl Asked {
    /// Matches all requests of a kind.
    pub fn every(act: Act) -> Self {
        Self { life: None, act, resource: None, from: 1, to: u32::MAX }
    }

    /// Restricts the pattern to the n-th matching request, counted from 1.
    #[must_use]
    pub fn nth(mut self, number: u32) -> Self {
        (self.from, self.to) = (number, number);
        self
    }

    /// Restricts the pattern to a resource.
    #[must_use]
    pub fn of(mut self, resource: &str) -> Self {
        self.resource = Some(resource.to_owned());
        self
    }

    /// Restricts the pattern to one life of the client.
    #[must_use]
    pub fn in_life(mut self, life: u32) -> Self {
        self.life = Some(life);
        self
    }
}

const ACTS: [(Act, &str); 9] = [
    (Act::Any, "any"),
    (Act::Write, "write"),
    (Act::Get, "get"),
    (Act::List, "list"),
    (Act::Watch, "watch"),
    (Act::Create, "create"),
    (Act::Update, "update"),
    (Act::Patch, "patch"),
    (Act::Delete, "delete"),
];

impl Act {
    /// Returns whether a request of the kind `other` matches this kind.
    pub fn covers(self, other: Self) -> bool {
        match self {
            Self::Any => true,
            Self::Write => matches!(other, Self::Create | Self::Update | Self::Patch | Self::Delete),
            same => same == other,
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(ACTS.iter().find(|(act, _)| act == self).map_or("any", |(_, name)| name))
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(life) = self.life {
            write!(formatter, "{life}/")?;
        }
        write!(formatter, "{}", self.act)?;
        if let Some(resource) = &self.resource {
            write!(formatter, ":{resource}")?;
        }
        match (self.from, self.to) {
            (1, u32::MAX) => Ok(()),
            (from, u32::MAX) => write!(formatter, "#{from}-"),
            (from, to) if from == to => write!(formatter, "#{from}"),
            (from, to) => write!(formatter, "#{from}-{to}"),
        }
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crash => formatter.write_str("crash"),
            Self::CrashBefore => formatter.write_str("crash-before"),
            Self::CrashLate(seconds) => write!(formatter, "crash-late({seconds})"),
            Self::Lost => formatter.write_str("lost"),
            Self::Late(seconds) => write!(formatter, "late({seconds})"),
            Self::Reset => formatter.write_str("reset"),
            Self::Silent => formatter.write_str("silent"),
            Self::Delay(seconds) => write!(formatter, "delay({seconds})"),
            Self::Refuse(code) => write!(formatter, "refuse({code})"),
            Self::At(revision) => write!(formatter, "at({revision})"),
            Self::Cut(lines) => write!(formatter, "cut({lines})"),
            Self::Stall(seconds) => write!(formatter, "stall({seconds})"),
            Self::Hold(revision, seconds) => write!(formatter, "hold({revision},{seconds})"),
            Self::Overtaken(newest, reached) => write!(formatter, "overtaken({newest},{reached})"),
            Self::Twice => formatter.write_str("twice"),
            Self::Expire => formatter.write_str("expire"),
            Self::Gap(from, to) => write!(formatter, "gap({from},{to})"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.asked, self.harm)
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, fault) in self.0.iter().enumerate() {
            write!(formatter, "{}{fault}", if at == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// The error for a word of a plan that cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to parse the fault {word:?}: {why}; expected [LIFE/]ACT[:RESOURCE][#WHICH]=HARM, such as patch:pods#3=lost"
)]
pub struct ParsePlanError {
    word: String,
    why: &'static str,
}

impl FromStr for Plan {
    type Err = ParsePlanError;

    fn from_str(text: &str) -> Result<Self, ParsePlanError> {
        let read = |word: &str| fault(word).map_err(|why| ParsePlanError { word: word.to_owned(), why });
        text.split_whitespace().map(read).collect::<Result<_, _>>().map(Self)
    }
}

fn fault(word: &str) -> Result<Fault, &'static str> {
    let (asked, effect) = word.split_once('=').ok_or("it has no =")?;
    Ok(Fault { asked: self::asked(asked)?, harm: harm(effect).ok_or("unknown HARM")? })
}

fn asked(text: &str) -> Result<Asked, &'static str> {
    let (text, which) = text.split_once('#').map_or((text, None), |(text, which)| (text, Some(which)));
    // A resource may contain a slash, too.
    let (life, text) = match text.split_once('/') {
        Some((life, rest)) if !life.contains(':') => (Some(life.parse().map_err(|_| "LIFE is not a number")?), rest),
        _ => (None, text),
    };
    let (act, resource) = text.split_once(':').map_or((text, None), |(act, resource)| (act, Some(resource.to_owned())));
    let act = ACTS.iter().find(|(_, name)| *name == act).map(|(act, _)| *act).ok_or("unknown ACT")?;
    let number = |text: &str| text.parse::<u32>().map_err(|_| "WHICH is not a number");
    let (from, to) = match which.map(|which| which.split_once('-').unwrap_or((which, which))) {
        None => (1, u32::MAX),
        Some((from, "")) => (number(from)?, u32::MAX),
        Some((from, to)) => (number(from)?, number(to)?),
    };
    Ok(Asked { life, act, resource, from, to })
}

fn harm(text: &str) -> Option<Harm> {
    let (word, values) = match text.strip_suffix(')') {
        Some(text) => text.split_once('(')?,
        None => (text, ""),
    };
    let values: Vec<u64> =
        values.split(',').filter(|value| !value.is_empty()).map(|value| value.parse().ok()).collect::<Option<_>>()?;
    let short = |value: u64| u32::try_from(value).ok();
    Some(match (word, values.as_slice()) {
        ("crash", []) => Harm::Crash,
        ("crash-before", []) => Harm::CrashBefore,
        ("crash-late", [seconds]) => Harm::CrashLate(short(*seconds)?),
        ("lost", []) => Harm::Lost,
        ("late", [seconds]) => Harm::Late(short(*seconds)?),
        ("reset", []) => Harm::Reset,
        ("silent", []) => Harm::Silent,
        ("delay", [seconds]) => Harm::Delay(short(*seconds)?),
        ("refuse", [code]) => Harm::Refuse(u16::try_from(*code).ok().filter(|code| (400..600).contains(code))?),
        ("at", [revision]) => Harm::At(*revision),
        ("cut", [lines]) => Harm::Cut(short(*lines)?),
        ("stall", [seconds]) => Harm::Stall(short(*seconds)?),
        ("hold", [revision, seconds]) => Harm::Hold(*revision, short(*seconds)?),
        ("overtaken", [newest, reached]) => Harm::Overtaken(*newest, *reached),
        ("twice", []) => Harm::Twice,
        ("expire", []) => Harm::Expire,
        ("gap", [from, to]) => Harm::Gap(*from, *to),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_round_trip_through_text() {
        let text = "patch#3=crash 1/write:deployments/scale#2=late(5) 2/list:pods#1-4=at(57) 2/watch=stall(20) \
                    any#7-=refuse(503) watch:pods#1=hold(9,20) watch=gap(3,8) get=silent create=lost update=reset \
                    delete=delay(1) write=crash-before watch#2=cut(1) watch#3=twice list=expire write#2=crash-late(6) \
                    watch#4=overtaken(5,7)";
        let plan: Plan = text.parse().unwrap();
        assert_eq!(plan.to_string(), text);
        assert_eq!(plan.0.len(), 17);
        assert_eq!(plan.0[1].asked, Asked::every(Act::Write).in_life(1).of("deployments/scale").nth(2));
        assert_eq!("".parse::<Plan>(), Ok(Plan::default()));
    }

    #[test]
    fn parse_error_names_the_word_and_the_cause() {
        for (text, why) in [
            ("patch#3", "it has no ="),
            ("push=crash", "unknown ACT"),
            ("patch#x=crash", "WHICH is not a number"),
            ("a/patch=crash", "LIFE is not a number"),
            ("patch=crush", "unknown HARM"),
            ("patch=refuse(200)", "unknown HARM"),
            ("patch=late", "unknown HARM"),
        ] {
            let error = format!("patch=lost {text}").parse::<Plan>().unwrap_err();
            assert_eq!((error.word.as_str(), error.why), (text, why));
        }
    }
}
