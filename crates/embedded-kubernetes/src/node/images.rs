//! Which local command stands for which image. There is no container runtime here: an image is a name for a command.

use std::path::Path;
use std::str::FromStr;

/// The table, as given when the node starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Images(Vec<Image>);

/// A row: `NAME=COMMAND ARGUMENT…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    name: String,
    command: Vec<String>,
}

impl FromStr for Image {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = "expected NAME=COMMAND, such as web=\"python3 -m http.server\"";
        let (name, command) = text.split_once('=').ok_or(wanted)?;
        let command = words(command)?;
        if name.is_empty() || command.is_empty() {
            return Err(wanted.to_owned());
        }
        Ok(Self { name: name.to_owned(), command })
    }
}

/// Parts a command at its spaces; what is in quotes stays together.
fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for letter in text.chars() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (_, letter) => word.get_or_insert_default().push(letter),
        }
    }
    if let Some(open) = quote {
        return Err(format!("the quote {open} in {text:?} is not closed"));
    }
    words.extend(word);
    Ok(words)
}

impl Images {
    /// The rows given; and a row for this program itself, whose image is called `sluice` wherever it comes from.
    pub fn new(rows: Vec<Image>, own: &Path) -> Self {
        let own = Image { name: "sluice".to_owned(), command: vec![own.display().to_string()] };
        Self(rows.into_iter().chain([own]).collect())
    }

    /// The command for an image: by the whole name, else without tag and digest, else without registry and folder too.
    pub fn command(&self, image: &str) -> Option<&[String]> {
        let bare = image.split('@').next().unwrap_or(image);
        let bare = match bare.rsplit_once(':') {
            // A colon before the last slash is a registry's port.
            Some((name, tag)) if !tag.contains('/') => name,
            _ => bare,
        };
        let last = bare.rsplit('/').next().unwrap_or(bare);
        let row = |name: &str| self.0.iter().find(|row| row.name == name);
        row(image).or_else(|| row(bare)).or_else(|| row(last)).map(|row| row.command.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_found_by_its_name_however_it_is_written() {
        let rows = ["web=python3 -m 'http server'", "r:5000/web=other", "web:2=second"].map(|row| row.parse().unwrap());
        let images = Images::new(rows.into(), Path::new("/bin/me"));
        let command = |image: &str| images.command(image).map(|command| command.join(","));
        assert_eq!(command("web").unwrap(), "python3,-m,http server");
        assert_eq!(command("docker.io/library/web:1.2@sha256:00").unwrap(), "python3,-m,http server");
        assert_eq!(command("web:2").unwrap(), "second");
        assert_eq!(command("r:5000/web:1").unwrap(), "other");
        assert_eq!(command("ghcr.io/sluice-dev/sluice:v1").unwrap(), "/bin/me");
        assert_eq!(command("nothing"), None);
    }

    #[test]
    fn a_row_that_says_nothing_is_refused() {
        for row in ["web", "=a", "web=", "web= "] {
            assert!(row.parse::<Image>().unwrap_err().contains("expected NAME=COMMAND"), "{row}");
        }
        assert_eq!("web=a 'b".parse::<Image>().unwrap_err(), "the quote ' in \"a 'b\" is not closed");
    }
}
