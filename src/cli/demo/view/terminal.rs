//! The terminal, taken for the screen and given back whatever happens: at the end, on an error, on a panic.

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

use super::Scene;
use super::screen::{self, Palette};

/// A smaller terminal gets lines, in columns and rows.
const SMALLEST: (u16, u16) = (40, 10);

/// What was said while the terminal is taken; nothing while it is not. It is one for the process, and so is this.
static TAKEN: Mutex<Option<Vec<String>>> = Mutex::new(None);

fn taken() -> MutexGuard<'static, Option<Vec<String>>> {
    TAKEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the screen is up. It is not any more after a panic of some task, even if the demo goes on.
pub(super) fn is_taken() -> bool {
    taken().is_some()
}

/// Keeps what was said for the screen, and for the lines after it. `false`: there is no screen.
pub(super) fn keep(words: &str) -> bool {
    taken().as_mut().map(|said| said.push(words.to_owned())).is_some()
}

/// The screen, as long as it is up.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stderr>>>,
    events: EventStream,
    palette: Palette,
}

impl Screen {
    /// Takes the terminal that stderr is, if it can have a screen.
    pub(super) fn take(no_color: bool) -> Option<Self> {
        let can_draw = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
        // Who is in the background may not touch the terminal: it would be stopped.
        let is_in_front = || tcgetpgrp(io::stderr()).is_ok_and(|front| front == getpgrp());
        if !(can_draw && io::stderr().is_terminal() && is_in_front()) {
            return None;
        }
        let unwanted = no_color || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let screen = Self::begin(Palette { color: !unwanted });
        if !matches!(screen, Ok(Some(_))) {
            give_back();
        }
        screen.ok().flatten()
    }

    fn begin(palette: Palette) -> io::Result<Option<Self>> {
        let terminal = Terminal::new(CrosstermBackend::new(BufWriter::new(io::stderr())))?;
        let size = terminal.backend().size()?;
        if size.width < SMALLEST.0 || size.height < SMALLEST.1 {
            return Ok(None);
        }
        give_back_on_panic();
        *taken() = Some(Vec::new());
        enable_raw_mode()?;
        // Not by `Terminal::clear`, which asks the terminal where its cursor is: some never answer.
        execute!(io::stderr(), EnterAlternateScreen, Clear(ClearType::All))?;
        Ok(Some(Self { terminal, events: EventStream::new(), palette }))
    }

    /// Draws the scene.
    pub(super) fn show(&mut self, scene: &Scene<'_>) -> io::Result<()> {
        let said = taken().clone().unwrap_or_default();
        self.terminal.draw(|frame| screen::draw(frame, scene, &said, self.palette))?;
        Ok(())
    }

    /// Until the terminal has another size. Meanwhile it obeys the keys.
    pub(super) async fn resized(&mut self) {
        while let Some(Ok(event)) = self.events.next().await {
            match event {
                Event::Resize(..) => return,
                // Of itself the terminal sends no signal while each key comes to us.
                Event::Key(key) if is_end(key) => drop(kill_process(getpid(), Signal::INT)),
                _ => {}
            }
        }
        // Nobody is there any more.
        std::future::pending::<()>().await;
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn is_end(key: KeyEvent) -> bool {
    let control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind != KeyEventKind::Release && (control_c || matches!(key.code, KeyCode::Char('q' | 'Q')))
}

/// As it was, and below it what was said meanwhile. Does nothing if it is not taken. There is nothing to be done about
/// a terminal that is gone.
fn give_back() {
    let Some(said) = taken().take() else { return };
    let mut stderr = io::stderr();
    let _ = disable_raw_mode();
    let _ = execute!(stderr, LeaveAlternateScreen, Show);
    for words in said {
        let _ = writeln!(stderr, "demo: {words}");
    }
}

/// Before the words of the panic are written: the other screen goes, and they with it.
fn give_back_on_panic() {
    static HOOKED: Once = Once::new();
    HOOKED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
    });
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    /// Set where the test below runs itself in a process of its own, to look at its end.
    const ITSELF: &str = "SLUICE_TEST_PANICS_BEHIND_THE_SCREEN";

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_says_anything() {
        if std::env::var_os(ITSELF).is_some() {
            let _screen = Screen::take(false).expect("a screen");
            assert!(keep("said meanwhile"));
            panic!("a defect");
        }
        let own = std::env::current_exe().unwrap();
        let test = "cli::demo::view::terminal::tests::a_panic_gives_the_terminal_back_before_it_says_anything";
        let run = format!("stty rows 24 cols 80; {ITSELF}=1 {} --exact {test} --nocapture; stty -a", own.display());
        let mut command = Command::new("script");
        command.args(["-qec", &run, "/dev/null"]).env("TERM", "xterm").stdin(Stdio::null());
        let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
        let rest = |words: &str, text: &str| match text.split_once(words) {
            Some((_, rest)) => rest.to_owned(),
            None => panic!("no {words:?} in {text:?} of {output:?}"),
        };
        let screen = rest("\x1b[?1049h", &output);
        let after = rest("\x1b[?1049l", &screen);
        let panic = rest("demo: said meanwhile\r\n", &after);
        let mode = rest("a defect", &panic);
        assert!(mode.contains(" icanon") && mode.contains(" echo "), "{mode}");
    }

    #[test]
    fn the_keys_that_end_it() {
        let key = |code, modifiers| is_end(KeyEvent::new(code, modifiers));
        assert!(key(KeyCode::Char('q'), KeyModifiers::NONE) && key(KeyCode::Char('c'), KeyModifiers::CONTROL));
        assert!(!key(KeyCode::Char('c'), KeyModifiers::NONE) && !key(KeyCode::Enter, KeyModifiers::NONE));
    }
}
