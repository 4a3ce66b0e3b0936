//! Output that is replaced on a terminal, and one block after the other anywhere else.
//!
//! On a terminal a frame is written over the one before it, line by line and in one write, so nothing flickers. No mode of
//! the terminal is changed: whatever ends the program, the last frame stays and there is nothing to restore.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

/// Goes to the top and clears everything: after a change of size nothing is where it was.
const CLEAR: &str = "\x1b[H\x1b[2J";

/// Clears to the end of the line.
const END_OF_LINE: &str = "\x1b[K";

/// Clears to the end of the screen.
const END_OF_SCREEN: &str = "\x1b[J";

/// Where frames go.
pub struct Screen {
    terminal: bool,
    shown: Vec<String>,
    /// Lines of the last frame on the terminal.
    height: usize,
    /// A frame was shown.
    begun: bool,
}

impl Screen {
    /// Standard output. With `plain` it is treated as a pipe in any case, as is a terminal that can do nothing.
    pub fn new(plain: bool) -> Screen {
        let dumb = std::env::var_os("TERM").is_some_and(|name| name == "dumb");
        Screen {
            terminal: !plain && !dumb && io::stdout().is_terminal(),
            shown: Vec::new(),
            height: 0,
            begun: false,
        }
    }

    /// Whether frames replace each other.
    pub fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Shows the next frame.
    ///
    /// # Errors
    /// Those of writing.
    pub fn show(&mut self, frame: Vec<String>) -> io::Result<()> {
        if !self.terminal {
            let mut text = frame.join("\n") + "\n";
            // Blocks of more than a line are told apart by an empty one.
            if frame.len() > 1 && self.begun {
                text.insert(0, '\n');
            }
            self.begun = true;
            return write(&text);
        }
        self.shown = frame;
        let above = match self.height {
            0 => String::new(),
            height => format!("\r\x1b[{height}A"),
        };
        self.draw(&above)
    }

    /// Shows the last frame again: the size of the terminal has changed.
    ///
    /// # Errors
    /// Those of writing.
    pub fn resized(&mut self) -> io::Result<()> {
        if self.terminal {
            self.draw(CLEAR)
        } else {
            Ok(())
        }
    }

    /// The last frame stays; what the terminal echoed after it does, too.
    ///
    /// # Errors
    /// Those of writing.
    pub fn interrupted(&self) -> io::Result<()> {
        if self.terminal { write("\n") } else { Ok(()) }
    }

    fn draw(&mut self, begin: &str) -> io::Result<()> {
        let stdout = io::stdout();
        let size = crate::sys::terminal::size(stdout.as_fd()).ok();
        let size = size.filter(|size| size.ws_row > 1 && size.ws_col > 0);
        let (rows, columns) = size.map_or((24, 80), |size| (size.ws_row, size.ws_col));
        let lines = fit(&self.shown, usize::from(rows) - 1, usize::from(columns));
        self.height = lines.len();
        let mut text = begin.to_owned();
        for line in &lines {
            text += line;
            text += END_OF_LINE;
            text += "\r\n";
        }
        text += END_OF_SCREEN;
        write(&text)
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// As much of `frame` as fits; the last line tells what does not.
fn fit(frame: &[String], rows: usize, columns: usize) -> Vec<String> {
    let cut = |line: &String| -> String {
        let visible = line.trim_end().chars().take(columns);
        // A path may contain anything, and must not move the cursor.
        visible
            .map(|c| if c.is_control() { '?' } else { c })
            .collect()
    };
    if frame.len() <= rows {
        return frame.iter().map(cut).collect();
    }
    let room = rows.saturating_sub(1);
    let mut lines: Vec<String> = frame.iter().take(room).map(cut).collect();
    let rest = format!("({} more lines)", frame.len() - room);
    lines.push(cut(&rest));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_fits_the_terminal() {
        let frame: Vec<String> = ["one", "two three  ", "four", "fi\x1bve"]
            .map(str::to_owned)
            .into();
        assert_eq!(fit(&frame, 4, 80), ["one", "two three", "four", "fi?ve"]);
        assert_eq!(fit(&frame, 4, 3), ["one", "two", "fou", "fi?"]);
        assert_eq!(fit(&frame, 3, 80), ["one", "two three", "(2 more lines)"]);
        assert_eq!(fit(&frame, 1, 80), ["(4 more lines)"]);
    }
}
