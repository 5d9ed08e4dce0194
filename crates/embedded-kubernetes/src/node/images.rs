//! The table of images. There is no container runtime here: an image is a name for a local command.

use std::str::FromStr;

/// The table, given when the node starts. An image that several rows name is the command of the first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Images(Vec<Image>);

/// A row of the table, as text `NAME=COMMAND ARGUMENT…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    name: String,
    command: Vec<String>,
}

impl Image {
    /// Returns the row for this name and command, the program first.
    pub fn new(name: &str, command: Vec<String>) -> Self {
        Self { name: name.to_owned(), command }
    }
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
        Ok(Self::new(name, command))
    }
}

/// Splits a command at its spaces, except those in quotes.
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
    /// Returns the table with these rows.
    pub fn new(rows: Vec<Image>) -> Self {
        Self(rows)
    }

    /// Returns the command for an image: by its whole name, else by its name without tag and digest, else by its name
    /// without registry and folder too.
    pub fn command(&self, image: &str) -> Option<&[String]> {
        let bare = image.split('@').next().unwrap_or(image);
        let bare = match bare.rsplit_once(':') {
            // A colon before the last slash belongs to the port of a registry.
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
    fn image_is_found_with_and_without_registry_and_tag() {
        let rows = ["web=python3 -m 'http server'", "r:5000/web=other", "web:2=second", "web=shadowed", "own=/bin/me"];
        let images = Images::new(rows.map(|row| row.parse().unwrap()).into());
        let command = |image: &str| images.command(image).map(|command| command.join(","));
        assert_eq!(command("web").unwrap(), "python3,-m,http server");
        assert_eq!(command("docker.io/library/web:1.2@sha256:00").unwrap(), "python3,-m,http server");
        assert_eq!(command("web:2").unwrap(), "second");
        assert_eq!(command("r:5000/web:1").unwrap(), "other");
        assert_eq!(command("ghcr.io/example/own:v1").unwrap(), "/bin/me");
        assert_eq!(command("nothing"), None);
    }

    #[test]
    fn row_without_name_or_command_is_refused() {
        for row in ["web", "=a", "web=", "web= "] {
            assert!(row.parse::<Image>().unwrap_err().contains("expected NAME=COMMAND"), "{row}");
        }
        assert_eq!("web=a 'b".parse::<Image>().unwrap_err(), "the quote ' in \"a 'b\" is not closed");
    }
}
