//! A table before it is drawn.

/// A table with a heading for each column.
#[derive(Clone, Debug, Default)]
pub struct Sheet {
    /// The columns.
    pub columns: Vec<Column>,
    /// The rows; each as long as the columns.
    pub rows: Vec<Vec<Cell>>,
}

/// A column of a table.
#[derive(Clone, Debug)]
pub struct Column {
    /// The heading.
    pub name: String,
    /// Whether it holds figures, which are aligned at the right.
    pub numeric: bool,
}

/// A cell of a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// What it says.
    pub text: String,
    /// Marks behind it, one character each; see [`super::mark`].
    pub marks: String,
    /// How it is to be taken.
    pub tone: Tone,
}

/// How a cell is to be taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// Worse than the baseline.
    Worse,
    /// Better than the baseline.
    Better,
    /// Beside the point.
    Muted,
    /// Something failed.
    Bad,
}

impl Cell {
    /// A cell with this text.
    pub fn new(text: impl Into<String>) -> Cell {
        Cell {
            text: text.into(),
            ..Cell::default()
        }
    }

    /// A cell for what does not exist.
    pub fn none() -> Cell {
        Cell::new("-").tone(Tone::Muted)
    }

    /// The text that may be missing.
    pub fn maybe(text: Option<String>) -> Cell {
        text.map_or_else(Cell::none, Cell::new)
    }

    /// The same with this tone.
    pub fn tone(mut self, tone: Tone) -> Cell {
        self.tone = tone;
        self
    }

    /// Text and marks.
    pub fn plain(&self) -> String {
        if self.marks.is_empty() {
            self.text.clone()
        } else {
            format!("{} {}", self.text, self.marks)
        }
    }
}

impl Sheet {
    /// An empty table. A heading that starts with `#` is that of a column of figures.
    pub fn new(headings: &[&str]) -> Sheet {
        let mut sheet = Sheet::default();
        for heading in headings {
            match heading.strip_prefix('#') {
                Some(name) => sheet.column(name, true),
                None => sheet.column(heading, false),
            }
        }
        sheet
    }

    /// Adds a column.
    pub fn column(&mut self, name: &str, numeric: bool) {
        self.columns.push(Column {
            name: name.to_owned(),
            numeric,
        });
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        let cells: Vec<Cell> = cells.into_iter().collect();
        assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.rows.push(cells);
    }

    /// Adds a row of words.
    pub fn words<T: Into<String>>(&mut self, words: impl IntoIterator<Item = T>) {
        self.row(words.into_iter().map(Cell::new));
    }

    /// All marks that occur.
    pub fn marks(&self) -> String {
        let mut marks = String::new();
        for mark in self
            .rows
            .iter()
            .flatten()
            .flat_map(|cell| cell.marks.chars())
        {
            if !marks.contains(mark) {
                marks.push(mark);
            }
        }
        marks
    }
}
