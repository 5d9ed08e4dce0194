//! Writes a container's log.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use super::Logs;
use sluice_base::clock::Clock;

/// Lines longer than this are written in parts, as container runtimes do, bytes.
const LINE_BYTES: u64 = 16 * 1024;
/// Size at which a log file becomes the older half, bytes. The previous older half is deleted, so that a container
/// with much output does not fill the disk.
const FILE_BYTES: u64 = 10 * 1024 * 1024;

/// A container's log, to which both of its output streams are written.
#[derive(Debug)]
pub struct LogWriter {
    path: PathBuf,
    clock: Clock,
    file: Mutex<(File, u64)>,
}

impl LogWriter {
    /// Opens a log for appending, and creates it if needed.
    pub fn open(path: &Path, clock: Clock) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), clock, file: Mutex::new((file, length)) })
    }

    /// Copies a stream to the log until its end. `stream` is the name in the log. Lines that cannot be written are
    /// lost, and the error of the last one is returned: if the copy stopped, the container would block on a full pipe
    /// for ever.
    pub fn copy(&self, stream: &str, from: impl Read) -> io::Result<()> {
        let mut from = BufReader::new(from);
        let mut text = Vec::new();
        let mut outcome = Ok(());
        loop {
            text.clear();
            if from.by_ref().take(LINE_BYTES).read_until(b'\n', &mut text)? == 0 {
                return outcome;
            }
            let whole = text.pop_if(|byte| *byte == b'\n').is_some();
            if let Err(error) = self.line(stream, if whole { "F" } else { "P" }, &text) {
                outcome = Err(error);
            }
        }
    }

    fn line(&self, stream: &str, tag: &str, text: &[u8]) -> io::Result<()> {
        let mut guard = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, length) = &mut *guard;
        // The clock is read under the lock, so that the times in a file never go back.
        let mut line = format!("{} {stream} {tag} ", now(&self.clock)).into_bytes();
        line.extend_from_slice(text);
        line.push(b'\n');
        file.write_all(&line)?;
        *length += line.len() as u64;
        if *length > FILE_BYTES {
            std::fs::rename(&self.path, Logs::older(&self.path))?;
            (*file, *length) = (open(&self.path)?, 0);
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

#[allow(clippy::cast_possible_truncation, reason = "nanoseconds of this era fit")]
fn now(clock: &Clock) -> Timestamp {
    Timestamp::from_nanosecond((clock.now().0 * 1e9) as i128).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_is_drained_when_the_log_cannot_be_written() {
        let folder = std::env::temp_dir().join(format!("embedded-logs-full-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("0.log");
        std::fs::write(&path, "").unwrap();
        let readable = Mutex::new((File::open(&path).unwrap(), 0));
        let writer = LogWriter { path, clock: Clock::system(), file: readable };
        // More than one read takes from the stream.
        let output = "a line\n".repeat(10_000);
        let mut output = output.as_bytes();
        assert!(writer.copy("stdout", &mut output).is_err());
        assert!(output.is_empty());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn growing_log_keeps_its_younger_half() {
        let folder = std::env::temp_dir().join(format!("embedded-logs-long-{}", std::process::id()));
        let path = folder.join("0.log");
        let writer = LogWriter::open(&path, Clock::system()).unwrap();
        let line = "x".repeat(16_000) + "\n";
        let lines = usize::try_from(FILE_BYTES).unwrap() / 16_000 + 20;
        writer.copy("stdout", line.repeat(lines).as_bytes()).unwrap();
        writer.copy("stdout", b"last\n".as_slice()).unwrap();
        let length = |path: &Path| std::fs::metadata(path).unwrap().len();
        assert!(length(&Logs::older(&path)) > FILE_BYTES && length(&path) < 1_000_000);
        let read = super::super::read(&path).unwrap();
        assert_eq!((read.len(), read.last().unwrap().text.as_slice()), (lines + 1, b"last\n".as_slice()));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn any_output_is_read_back_unchanged() {
        let folder = std::env::temp_dir().join(format!("embedded-logs-{}", std::process::id()));
        let path = folder.join("0.log");
        let writer = LogWriter::open(&path, Clock::system()).unwrap();
        let long = "x".repeat(usize::try_from(LINE_BYTES).unwrap() + 5);
        writer.copy("stdout", format!("one\n\n{long}\nlast without an end").as_bytes()).unwrap();
        writer.copy("stderr", b"\xff\n".as_slice()).unwrap();
        let lines = super::super::read(&path).unwrap();
        let text: Vec<u8> = lines.iter().flat_map(|line| line.text.clone()).collect();
        let expected = [format!("one\n\n{long}\nlast without an end").as_bytes(), b"\xff\n"].concat();
        assert_eq!(text, expected);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
