//! Tables of numbers in the terminal.

use comfy_table::{CellAlignment, LineStyle, Row, Table, TableStyle};

/// A column of names and columns of numbers, these to the right, with a line below the header.
pub(crate) struct NumberTable(Table);

impl NumberTable {
    pub(crate) fn new(header: impl Into<Row>) -> Self {
        let line = LineStyle::none().fill('─').junction('─');
        let mut table = Table::new();
        table
            .load_style(TableStyle::new().header_separator(line))
            .set_header(header);
        Self(table)
    }

    /// Adds a row; it may have fewer cells than the header.
    pub(crate) fn add(&mut self, row: impl Into<Row>) {
        self.0.add_row(row);
    }
}

impl std::fmt::Display for NumberTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut table = self.0.clone();
        for (index, column) in table.column_iter_mut().enumerate() {
            if index == 0 {
                column.set_padding((0, 1));
            } else {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(f, "{}", table.trim_fmt())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_to_the_left_and_numbers_to_the_right() {
        let mut table = NumberTable::new(["", "ms", "share"]);
        table.add(["a step", "12.5", "100 %"]);
        table.add(["  of it", "7.0"]);
        let expected = "            ms   share
───────────────────────
a step    12.5   100 %
  of it    7.0
";
        assert_eq!(table.to_string(), expected);
    }
}
