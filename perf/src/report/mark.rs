//! Marks behind the figures of a matrix.

use super::analysis::{Absent, Certainty, FASTER, Flag, Line, SLOWER, STOLEN};
use super::figure;
use super::sheet::{Cell, Tone};

/// What the marks mean, in the order in which they are written.
pub fn legend() -> [(char, String); 9] {
    [
        ('<', format!("below {SLOWER} of the baseline")),
        ('>', format!("above {FASTER} of the baseline")),
        ('~', "not significant: the interval holds 1.00".to_owned()),
        ('?', "too few rounds to tell it from chance".to_owned()),
        ('*', "explained below".to_owned()),
        ('o', "a round is an outlier".to_owned()),
        (
            's',
            format!(
                "the hypervisor took more than {:.0} % of the CPU time of a round",
                STOLEN * 100.0
            ),
        ),
        ('f', "some rounds failed".to_owned()),
        (
            '=',
            "no baseline to compare with: the figure itself".to_owned(),
        ),
    ]
}

/// The legend of the marks in `used`, in one line; nothing if there are none.
pub fn legend_of(used: &str) -> String {
    legend()
        .iter()
        .filter(|(mark, _)| used.contains(*mark))
        .map(|(mark, meaning)| format!("{mark} {meaning}"))
        .collect::<Vec<String>>()
        .join("; ")
}

/// The marks of a line.
pub fn of(line: &Line<'_>) -> String {
    let mut marks = String::new();
    let Some(figures) = &line.figures else {
        return marks;
    };
    match figures.flag {
        Some(Flag::Slower) => marks.push('<'),
        Some(Flag::Faster) => marks.push('>'),
        None => {}
    }
    if figures.flag.is_some() {
        match figures.certainty {
            Some(Certainty::NotSignificant) => marks.push('~'),
            Some(Certainty::TooFewRounds) => marks.push('?'),
            _ => {}
        }
        if line.explanation.is_some() {
            marks.push('*');
        }
    }
    if !figures.outliers.is_empty() {
        marks.push('o');
    }
    if figures.stolen.is_some() {
        marks.push('s');
    }
    if !line.failures.is_empty() {
        marks.push('f');
    }
    if figures.ratio.is_none() && !line.is_baseline() {
        marks.push('=');
    }
    marks
}

/// How a line's ratio is to be taken.
pub fn tone(line: &Line<'_>) -> Tone {
    match line.figures.as_ref().and_then(|figures| figures.flag) {
        Some(_) if !line.wants_reason() => Tone::Plain,
        Some(Flag::Slower) => Tone::Worse,
        Some(Flag::Faster) => Tone::Better,
        None => Tone::Plain,
    }
}

/// The cell of a line in a matrix: its ratio, or its figure where there is nothing to compare it with, or why there is
/// none.
pub fn cell(line: &Line<'_>) -> Cell {
    let Some(figures) = &line.figures else {
        return match line.absent {
            None => Cell::new("FAIL").tone(Tone::Bad),
            Some(Absent::Skipped(_)) => Cell::new("skip").tone(Tone::Muted),
            Some(Absent::Unavailable(_)) => Cell::new("n/a").tone(Tone::Muted),
            Some(Absent::NotReached) => Cell::none(),
        };
    };
    let text = match figures.ratio {
        Some(ratio) => figure::ratio(ratio.value),
        None => figure::with_unit(figures.value.value, &line.workload.unit),
    };
    Cell {
        text,
        marks: of(line),
        tone: tone(line),
    }
}
