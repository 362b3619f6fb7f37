//! What the command tells on its standard output.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Writes a line. A reader that has gone is no fault: what was asked for goes on, in files.
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}
