//! The terminal: taken over while the view is shown, and given back on every way out.

use std::{
    io::{self, BufWriter, Stderr},
    mem::ManuallyDrop,
};

use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};

use gpuos_host::diagnostics;

/// The screen on standard error, because standard output is the command's.
#[derive(Debug)]
pub(super) struct Screen {
    /// Buffered: standard error alone would make a system call of every change of colour. Never dropped: ratatui prints
    /// that it cannot show the cursor of a terminal that is gone, and panics because it cannot print.
    terminal: ManuallyDrop<Terminal<CrosstermBackend<BufWriter<Stderr>>>>,
}

impl Screen {
    /// Takes the terminal over.
    ///
    /// # Errors
    /// What the terminal says.
    pub(super) fn take() -> io::Result<Self> {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
        enable_raw_mode()?;
        // From here on `Drop` gives it back.
        let terminal =
            Terminal::new(CrosstermBackend::new(BufWriter::new(io::stderr()))).inspect_err(|_| give_back())?;
        let screen = Self { terminal: ManuallyDrop::new(terminal) };
        execute!(io::stderr(), EnterAlternateScreen)?;
        diagnostics::buffer();
        Ok(screen)
    }

    /// Draws a whole screen; only what has changed is sent.
    ///
    /// # Errors
    /// What the terminal says.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut ratatui::Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(drop)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn give_back() {
    let _ = execute!(io::stderr(), LeaveAlternateScreen, Show);
    let _ = disable_raw_mode();
    diagnostics::flush();
}
