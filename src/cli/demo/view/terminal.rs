//! Switches the terminal to the screen, and restores it in every case: at the end, on an error, and on a panic.

use std::io::{self, BufWriter, IsTerminal as _, Stderr, Write as _};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use crossterm::cursor::Show;
use crossterm::event::{Event, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::execute;
use crossterm::terminal::{
    Clear, ClearType, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use futures::StreamExt as _;
use ratatui::Terminal;
use ratatui::backend::{Backend as _, CrosstermBackend};
use rustix::process::{Signal, getpgrp, getpid, kill_process};
use rustix::termios::tcgetpgrp;

use super::Snapshot;
use super::screen::{self, Palette};

/// Minimum size of the screen, columns and rows; a smaller terminal gets lines.
const MIN_SIZE: (u16, u16) = (40, 10);

/// The messages printed while the screen is active; `None` while it is not. Global, because the process has one
/// terminal.
static MESSAGES: Mutex<Option<Vec<String>>> = Mutex::new(None);

fn messages() -> MutexGuard<'static, Option<Vec<String>>> {
    MESSAGES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns whether the screen is active. A panic of any task ends it, even if the demo continues.
pub(super) fn is_active() -> bool {
    messages().is_some()
}

/// Queues a message for the screen, and for the lines after it. Returns false if no screen is active.
pub(super) fn queue_message(message: &str) -> bool {
    messages().as_mut().map(|messages| messages.push(message.to_owned())).is_some()
}

/// The active screen. Dropping it restores the terminal.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stderr>>>,
    events: EventStream,
    palette: Palette,
}

impl Screen {
    /// Switches the terminal of stderr to the screen. Returns `None` if it is not suitable.
    pub(super) fn start(no_color: bool) -> Option<Self> {
        let can_draw = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
        // A background process that changes the terminal would be stopped by the system.
        let is_foreground = || tcgetpgrp(io::stderr()).is_ok_and(|foreground| foreground == getpgrp());
        if !(can_draw && io::stderr().is_terminal() && is_foreground()) {
            return None;
        }
        let colorless = no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let screen = Self::begin(Palette { color: !colorless });
        if !matches!(screen, Ok(Some(_))) {
            restore();
        }
        screen.ok().flatten()
    }

    fn begin(palette: Palette) -> io::Result<Option<Self>> {
        let terminal = Terminal::new(CrosstermBackend::new(BufWriter::new(io::stderr())))?;
        let size = terminal.backend().size()?;
        if size.width < MIN_SIZE.0 || size.height < MIN_SIZE.1 {
            return Ok(None);
        }
        restore_on_panic();
        *messages() = Some(Vec::new());
        enable_raw_mode()?;
        // `Terminal::clear` would query the cursor position, which some terminals never answer.
        execute!(io::stderr(), EnterAlternateScreen, Clear(ClearType::All))?;
        Ok(Some(Self { terminal, events: EventStream::new(), palette }))
    }

    /// Draws the snapshot.
    pub(super) fn show(&mut self, snapshot: &Snapshot<'_>) -> io::Result<()> {
        let messages = messages().clone().unwrap_or_default();
        self.terminal.draw(|frame| screen::draw(frame, snapshot, &messages, self.palette))?;
        Ok(())
    }

    /// Waits until the terminal is resized, and handles keys meanwhile.
    pub(super) async fn resized(&mut self) {
        while let Some(Ok(event)) = self.events.next().await {
            match event {
                Event::Resize(..) => return,
                // In raw mode the terminal itself sends no signal on Ctrl-C.
                Event::Key(key) if is_quit_key(key) => drop(kill_process(getpid(), Signal::INT)),
                _ => {}
            }
        }
        // The terminal is closed.
        std::future::pending::<()>().await;
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

fn is_quit_key(key: KeyEvent) -> bool {
    let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind != KeyEventKind::Release && (control_c || matches!(key.code, KeyCode::Char('q' | 'Q')))
}

/// Restores the terminal and prints the messages below its former content. Does nothing if no screen is active. Errors
/// are ignored: the terminal may be closed.
fn restore() {
    let Some(messages) = messages().take() else { return };
    let mut stderr = io::stderr();
    let _ = disable_raw_mode();
    let _ = execute!(stderr, LeaveAlternateScreen, Show);
    for message in messages {
        let _ = writeln!(stderr, "demo: {message}");
    }
}

/// Restores the terminal before a panic message is printed, which would otherwise vanish with the alternate screen.
fn restore_on_panic() {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            before(panic);
        }));
    });
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// Set when the test below runs itself in a separate process, whose output it checks.
    const CHILD: &str = "SLUICE_TEST_PANICS_BEHIND_THE_SCREEN";

    #[test]
    fn a_panic_restores_the_terminal_before_its_message() {
        if std::env::var_os(CHILD).is_some() {
            let _screen = Screen::start(false).expect("a screen");
            assert!(queue_message("a queued message"));
            panic!("a defect");
        }
        let own = std::env::current_exe().unwrap();
        let test = "cli::demo::view::terminal::tests::a_panic_restores_the_terminal_before_its_message";
        let run = format!("stty rows 24 cols 80; {CHILD}=1 {} --exact {test} --nocapture; stty -a", own.display());
        let mut command = Command::new("script");
        command.args(["-qec", &run, "/dev/null"]).env("TERM", "xterm").stdin(Stdio::null());
        let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let rest = |part: &str, text: &str| match text.split_once(part) {
            Some((_, rest)) => rest.to_owned(),
            None => panic!("no {part:?} in {text:?} of {output:?}"),
        };
        let screen = rest("\x1b[?1049h", &output);
        let after = rest("\x1b[?1049l", &screen);
        let panic = rest("demo: a queued message\r\n", &after);
        let mode = rest("a defect", &panic);
        assert!(mode.contains(" icanon") && mode.contains(" echo "), "{mode}");
    }

    #[test]
    fn q_and_control_c_quit() {
        let key = |code, modifiers| is_quit_key(KeyEvent::new(code, modifiers));
        assert!(key(KeyCode::Char('q'), KeyModifiers::NONE) && key(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(!key(KeyCode::Char('c'), KeyModifiers::NONE) && !key(KeyCode::Enter, KeyModifiers::NONE));
    }
}
