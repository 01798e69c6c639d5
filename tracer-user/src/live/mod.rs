//! The live view: what is counted, while it is counted. `state` knows no terminal, `view` reads nothing, and what is in
//! between is here: ten times a second the counts are read, keys are followed and the screen is drawn. Where
//! standard error is no terminal, a line a second says the same in short.

mod columns;
pub mod output;
pub mod state;
mod terminal;
pub mod view;

use std::{
    io::{self, IsTerminal as _},
    os::fd::AsFd as _,
    time::Duration,
};

use gpuos_decode::{devices::Devices, roles::Roles};
use gpuos_host::diagnostics;
use gpuos_model::units::{count, duration, printable};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use crate::{aggregate::Aggregator, probe::Counters};
use output::Output;
use state::State;
use terminal::Screen;
use view::Shown;

/// How often the counts are read and the screen is drawn.
pub const INTERVAL: Duration = Duration::from_millis(100);
/// How often what threads have used is read, and a line is printed where there is no screen.
const SECOND: u32 = 10;

/// What the user wants of whoever drives the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UiAction {
    /// Nothing.
    GoOn,
    /// An interrupt for the command.
    Interrupt,
}

/// The view and what it needs.
#[derive(Debug)]
pub struct Live {
    state: State,
    shown: Shown,
    screen: Option<Screen>,
    output: Option<Output>,
    ticks: u32,
    is_closed: bool,
}

impl Live {
    /// Takes the terminal over, if standard error is one.
    ///
    /// # Errors
    /// What the terminal says.
    pub fn begin(title: String, roles: Roles, devices: Devices, output: Option<Output>) -> io::Result<Self> {
        let state = State::new(title, roles, devices);
        let screen = if io::stderr().is_terminal() { Some(Screen::take()?) } else { None };
        Ok(Self { state, shown: Shown::default(), screen, output, ticks: 0, is_closed: false })
    }

    /// Shows the end of the command's output in a pane.
    pub fn show_output(&mut self) {
        self.shown.output = Some(Vec::new());
    }

    /// Reads, follows keys, draws. To be called every [`INTERVAL`].
    ///
    /// # Errors
    /// What the kernel or the terminal says.
    pub fn tick(&mut self, counters: &Counters, aggregator: &mut Aggregator) -> io::Result<UiAction> {
        if self.is_closed {
            return Ok(UiAction::GoOn);
        }
        let is_second = self.ticks.is_multiple_of(SECOND);
        self.ticks = self.ticks.wrapping_add(1);
        let has_screen = self.screen.is_some();
        if !self.shown.is_paused && (has_screen || is_second) {
            let reading = aggregator.reading(counters, is_second)?;
            self.state.read(reading, aggregator.devices());
        }
        if !has_screen {
            if is_second {
                diagnostics::print(&line(&self.state));
            }
            return Ok(UiAction::GoOn);
        }
        self.shown.trouble = diagnostics::last_buffered();
        // A terminal that is gone ends the view, not the trace.
        Ok(self.converse().unwrap_or_else(|_| {
            self.close();
            UiAction::GoOn
        }))
    }

    /// Follows keys and draws.
    fn converse(&mut self) -> io::Result<UiAction> {
        let mut action = UiAction::GoOn;
        if has_hung_up() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        while action == UiAction::GoOn && event::poll(Duration::ZERO)? {
            if let Event::Key(key) = event::read()?
                && key.kind != KeyEventKind::Release
            {
                action = self.follow(key);
            }
        }
        if self.shown.wants_end {
            self.close();
        }
        self.draw()?;
        Ok(action)
    }

    fn draw(&mut self) -> io::Result<()> {
        let Some(screen) = &mut self.screen else { return Ok(()) };
        if let (Some(lines), Some(output)) = (&mut self.shown.output, &self.output) {
            *lines = output.last_lines();
        }
        let last = self.state.processes.len().saturating_sub(1);
        self.shown.cursor = self.shown.cursor.min(last);
        screen.draw(|frame| view::draw(frame, &self.state, &self.shown))
    }

    /// Does what a key says.
    #[expect(clippy::wildcard_enum_match_arm, reason = "of all keys few mean something")]
    fn follow(&mut self, key: KeyEvent) -> UiAction {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return UiAction::Interrupt;
        }
        if let Some(typed) = &mut self.shown.typing {
            match key.code {
                KeyCode::Char(letter) => typed.push(letter),
                KeyCode::Backspace => drop(typed.pop()),
                KeyCode::Esc => {
                    self.shown.typing = None;
                    self.state.set_filter(String::new());
                    return UiAction::GoOn;
                }
                KeyCode::Enter => {
                    self.shown.typing = None;
                    return UiAction::GoOn;
                }
                _ => {}
            }
            let filter = typed.clone();
            self.state.set_filter(filter);
            return UiAction::GoOn;
        }
        match key.code {
            KeyCode::Char('q') => self.shown.wants_end = true,
            KeyCode::Char('p' | ' ') => self.shown.is_paused = !self.shown.is_paused,
            KeyCode::Char('s') => self.state.next_order(),
            KeyCode::Char('/') => self.shown.typing = Some(self.state.filter.clone()),
            KeyCode::Char('?' | 'h') => self.shown.has_help = !self.shown.has_help,
            KeyCode::Char('o') if self.shown.output.is_some() => self.shown.output = None,
            KeyCode::Char('o') => self.show_output(),
            KeyCode::Esc => self.shown.has_help = false,
            KeyCode::Up => self.shown.cursor = self.shown.cursor.saturating_sub(1),
            KeyCode::Down => self.shown.cursor += 1,
            KeyCode::Enter => {
                let chosen = self.state.processes.get(self.shown.cursor).map(|process| process.id);
                self.state.choose_process(chosen.filter(|_| self.state.process != chosen));
            }
            _ => {}
        }
        UiAction::GoOn
    }

    /// Whether the user has closed it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Gives the terminal back, and the command's output to whom it is for.
    fn close(&mut self) {
        self.screen = None;
        self.is_closed = true;
        if let Some(output) = &self.output {
            output.release();
        }
    }

    /// Gives the terminal back when the command has ended, and what is left of its output to whom it is for.
    pub fn finish(self) {
        drop(self.screen);
        if let Some(output) = self.output {
            output.finish();
        }
    }
}

/// Whether the terminal is gone. crossterm would read its end again and again, and never return.
fn has_hung_up() -> bool {
    let stderr = io::stderr();
    let mut state = [PollFd::new(stderr.as_fd(), PollFlags::empty())];
    poll(&mut state, PollTimeout::ZERO).is_ok_and(|found| found > 0)
}

/// The state in one line.
fn line(state: &State) -> String {
    let mut words = vec![
        duration(state.elapsed_ns()),
        format!("{} calls", count(state.total.calls)),
        format!("{} a second", count(state.total.rate.round() as u64)),
    ];
    let busy = state.roles.iter().filter(|role| role.rate >= 0.5);
    words.extend(busy.map(|role| format!("{} {}/s", role.name, count(role.rate.round() as u64))));
    words.extend(
        state.phases.iter().filter(|phase| phase.is_current).map(|phase| format!("in {}", printable(&phase.path))),
    );
    words.extend(state.spins.iter().map(|spin| format!("thread {} SPINS", spin.thread)));
    words.extend(state.losses.found().map(|loss| format!("LOST {} {}", count(loss.number), loss.what)));
    words.join(" · ") + "\n"
}
