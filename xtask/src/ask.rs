//! Asks for a value on the terminal.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

/// The terminal of this process, wherever its input and output go.
pub(crate) struct Terminal(File);

/// What Ctrl-C sends.
const CTRL_C: char = '\u{3}';

impl Terminal {
    /// Opens it; none where there is none, as in CI.
    pub(crate) fn open() -> Option<Terminal> {
        File::options().read(true).write(true).open("/dev/tty").ok().map(Terminal)
    }

    /// Shows a text.
    pub(crate) fn show(&self, text: &str) -> io::Result<()> {
        (&self.0).write_all(text.as_bytes())
    }

    /// Asks for a line; a secret is not shown while it is typed. None if the answer is Ctrl-C or
    /// Ctrl-D.
    pub(crate) fn ask(&self, question: &str, secret: bool) -> io::Result<Option<String>> {
        let _hidden = if secret { Some(Hidden::new(&self.0)?) } else { None };
        self.show(question)?;
        // A terminal gives a line at a time, of no more than this; what ends it may be no newline.
        let mut line = vec![0; 4096];
        let length = (&self.0).read(&mut line)?;
        line.truncate(length);
        let line = String::from_utf8_lossy(&line);
        if secret {
            self.show("\n")?;
        }
        let whole = line.ends_with('\n') && !line.contains(CTRL_C);
        Ok(whole.then(|| line.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

/// While it lives, the terminal shows nothing of what is typed, and Ctrl-C ends the line instead of
/// the process: so nothing but this can leave it mute.
struct Hidden<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn new(terminal: &'a File) -> io::Result<Hidden<'a>> {
        let before = tcgetattr(terminal)?;
        let mut mute = before.clone();
        mute.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        mute.special_codes[SpecialCodeIndex::VEOL] = CTRL_C as u8;
        // What was typed before the question is no answer to it.
        tcsetattr(terminal, OptionalActions::Flush, &mute)?;
        Ok(Hidden { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        // It worked a moment ago; there is nobody to tell.
        let _ = tcsetattr(self.terminal, OptionalActions::Drain, &self.before);
    }
}
