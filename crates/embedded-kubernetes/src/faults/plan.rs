//! What is to go wrong: a value that can be printed, read back, and made smaller.
//!
//! A plan is words with spaces between them, one for each fault: `[LIFE/]ACT[:RESOURCE][#WHICH]=HARM`. `patch#3=crash`
//! kills the client right after its third patch. `2/list:pods#1=at(57) 2/watch=stall(20)` shows the client, once it has
//! been started a second time, the pods as they were at revision 57, and nothing newer for 20 seconds.

use std::fmt;
use std::str::FromStr;

/// Faults. Of several that meet the same request, the first is done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan(pub Vec<Fault>);

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which requests.
    pub asked: Asked,
    /// What happens to them.
    pub harm: Harm,
}

/// Which requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Only those of the client's n-th life, from 1. `None`: of any.
    pub life: Option<u32>,
    /// What is asked for.
    pub act: Act,
    /// Plural, and subresource if any: `deployments/scale`. `None`: of anything.
    pub resource: Option<String>,
    /// Of those, the first that is meant, from 1.
    pub from: u32,
    /// The last that is meant.
    pub to: u32,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Anything.
    Any,
    /// Anything that changes something.
    Write,
    /// GET of an object.
    Get,
    /// GET of a collection.
    List,
    /// The changes of a collection.
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

/// What happens to a request. Times are in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// It is done, and the client dies before it hears of it.
    Crash,
    /// The client dies, and the request with it.
    CrashBefore,
    /// The client dies, and the request, which is on its way, is done so much later.
    CrashLate(u32),
    /// It is done, and the connection breaks before the answer.
    Lost,
    /// The connection breaks, and it is done so much later.
    Late(u32),
    /// The connection breaks, and nothing is done.
    Reset,
    /// Nothing is done, and nobody ever answers.
    Silent,
    /// It is done so much later, and answered then.
    Delay(u32),
    /// It is answered with this code, and nothing is done. 429 and 503 ask to come back after a second.
    Refuse(u16),
    /// A list for which any version will do is as it was at this revision: what a server tells whose cache is behind.
    At(u64),
    /// A stream ends after so many lines, in the middle of the next one.
    Cut(u32),
    /// A stream is silent for so long; then comes what has happened meanwhile.
    Stall(u32),
    /// A stream tells what is newer than this revision so much later: a cache that falls behind.
    Hold(u64, u32),
    /// A stream tells what is newer than the first of these revisions only once the store is at the second, or 10 seconds later: a
    /// cache that others overtake.
    Overtaken(u64, u64),
    /// Each line of a stream comes twice.
    Twice,
    /// A list, or a stream by its first line, says that the version is too old: 410.
    Expire,
    /// A stream says nothing from the first of these revisions on; when it comes to the second, or 30 seconds later, it has
    /// expired. The client never sees what was between them.
    Gap(u64, u64),
}

impl Plan {
    /// A plan of one fault.
    pub fn one(asked: Asked, harm: Harm) -> Self {
        Self(vec![Fault { asked, harm }])
    }

    /// The same, with one fault more.
    #[must_use]
    pub fn and(mut self, asked: Asked, harm: Harm) -> Self {
        self.0.push(Fault { asked, harm });
        self
    }
}

impl Asked {
    /// Every request of a kind.
    pub fn every(act: Act) -> Self {
        Self { life: None, act, resource: None, from: 1, to: u32::MAX }
    }

    /// Only the n-th of them, from 1.
    #[must_use]
    pub fn nth(mut self, number: u32) -> Self {
        (self.from, self.to) = (number, number);
        self
    }

    /// Only those about a resource.
    #[must_use]
    pub fn of(mut self, resource: &str) -> Self {
        self.resource = Some(resource.to_owned());
        self
    }

    /// Only those of one life of the client.
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
    /// Whether a request for `other` is one of these.
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
        formatter.write_str(ACTS.iter().find(|(act, _)| act == self).map_or("any", |(_, word)| word))
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

/// What of a plan cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to read the fault {word:?}: {why}; expected [LIFE/]ACT[:RESOURCE][#WHICH]=HARM, such as patch:pods#3=lost"
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
    let (asked, done) = word.split_once('=').ok_or("there is no =")?;
    Ok(Fault { asked: self::asked(asked)?, harm: harm(done).ok_or("no such harm")? })
}

fn asked(text: &str) -> Result<Asked, &'static str> {
    let (text, which) = text.split_once('#').map_or((text, None), |(text, which)| (text, Some(which)));
    // A resource may have a slash too.
    let (life, text) = match text.split_once('/') {
        Some((life, rest)) if !life.contains(':') => (Some(life.parse().map_err(|_| "the life is no number")?), rest),
        _ => (None, text),
    };
    let (act, resource) = text.split_once(':').map_or((text, None), |(act, resource)| (act, Some(resource.to_owned())));
    let act = ACTS.iter().find(|(_, word)| *word == act).map(|(act, _)| *act).ok_or("no such act")?;
    let number = |text: &str| text.parse::<u32>().map_err(|_| "which of them is no number");
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
    fn plans_are_read_as_they_are_printed() {
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
    fn what_cannot_be_read_is_named() {
        for (text, why) in [
            ("patch#3", "there is no ="),
            ("push=crash", "no such act"),
            ("patch#x=crash", "which of them is no number"),
            ("a/patch=crash", "the life is no number"),
            ("patch=crush", "no such harm"),
            ("patch=refuse(200)", "no such harm"),
            ("patch=late", "no such harm"),
        ] {
            let error = format!("patch=lost {text}").parse::<Plan>().unwrap_err();
            assert_eq!((error.word.as_str(), error.why), (text, why));
        }
    }
}
