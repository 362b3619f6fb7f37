//! What the command tells on its standard output.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Writes a text and ends its last line. A reader that has gone is no fault: what was asked for goes on, in
/// files.
pub(crate) fn say(text: impl Display) {
    let text = text.to_string();
    let _ = writeln!(io::stdout(), "{}", text.trim_end_matches('\n'));
}
