//! Tables for people, and numbers as people read them.

use std::fmt::Write;

/// On which side of its column a cell lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows below a heading, in columns as wide as their widest cell.
#[derive(Debug)]
pub(crate) struct Table {
    sides: Vec<Side>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table of these columns. A heading that starts with `>` makes a column of numbers.
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        let side = |heading: &&str| {
            if heading.starts_with('>') {
                Side::Right
            } else {
                Side::Left
            }
        };
        let names = headings.map(|heading| heading.trim_start_matches('>').to_string());
        Table {
            sides: headings.iter().map(side).collect(),
            rows: vec![names.to_vec()],
        }
    }

    /// One more row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        debug_assert_eq!(N, self.sides.len());
        self.rows.push(cells.to_vec());
    }

    /// As lines of text, without blanks at their ends.
    pub(crate) fn render(&self) -> String {
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<_> = (0..self.sides.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, side), &width) in row.iter().zip(&self.sides).zip(&widths) {
                // Writing into a String cannot fail.
                let _ = match side {
                    Side::Left => write!(line, "{cell:<width$}  "),
                    Side::Right => write!(line, "{cell:>width$}  "),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Bytes with a unit, as `lsipc` prints them: `4K`, `1.5M`.
pub(crate) fn bytes(count: u64) -> String {
    let mut units = ["B", "K", "M", "G", "T", "P", "E"].into_iter();
    let (mut unit, mut value) = (units.next().unwrap_or_default(), count as f64);
    for next in units {
        if value < 1024.0 {
            break;
        }
        (unit, value) = (next, value / 1024.0);
    }
    if value.fract() == 0.0 {
        format!("{value}{unit}")
    } else {
        format!("{value:.1}{unit}")
    }
}

/// A time in the largest unit that keeps it whole: `200us`, `5s`.
pub(crate) fn nanoseconds(count: u64) -> String {
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1000, "us")];
    match units.iter().find(|(size, _)| count.is_multiple_of(*size)) {
        Some((size, unit)) if count > 0 => format!("{}{unit}", count / size),
        _ => format!("{count}ns"),
    }
}

/// Permission bits as `ls` and `lsipc` write them.
pub(crate) fn permissions(mode: u16) -> String {
    let bit = |shift: u32| {
        if mode >> (8 - shift) & 1 == 1 {
            ['r', 'w', 'x'][shift as usize % 3]
        } else {
            '-'
        }
    };
    (0..9).map(bit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_numbers_lie_right() {
        let mut table = Table::new(["NAME", ">SIZE", "HOME"]);
        table.row(["a".into(), "12345".into(), "node1".into()]);
        table.row(["longer".into(), "7".into(), String::new()]);
        assert_eq!(
            table.render(),
            "NAME     SIZE  HOME\na       12345  node1\nlonger      7\n"
        );
    }

    #[test]
    fn numbers_are_written_as_people_read_them() {
        let sizes = [0, 1, 1023, 1024, 1536, 5 << 20, 3 << 40].map(bytes);
        assert_eq!(sizes, ["0B", "1B", "1023B", "1K", "1.5K", "5M", "3T"]);
        let times = [0, 7, 200_000, 1_500_000, 5_000_000_000].map(nanoseconds);
        assert_eq!(times, ["0ns", "7ns", "200us", "1500us", "5s"]);
        let modes = [0o600, 0o644, 0o1777, 0].map(permissions);
        assert_eq!(modes, ["rw-------", "rw-r--r--", "rwxrwxrwx", "---------"]);
    }
}
