//! What the command tells on its standard output.

use std::{
    fmt::Display,
    io::{self, Write},
};

/// Writes a text and ends its last line. A reader that has gone is no fault: what was asked for goes on, in
/// files.
pub(crate) fn say(text: impl Display) {
    let text = text.to_string();
    match writeln!(io::stdout(), "{}", text.trim_end_matches('\n')) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("cannot write to the standard output: {error}");
        }
        _ => {}
    }
}
