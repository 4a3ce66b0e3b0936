//! What all charts have in common: scales, axes, labels.

use super::markup::{Element, coordinate, el};

/// Maps values to coordinates.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
    log: bool,
}

impl Scale {
    /// Equal factors are equal distances. `low` and `high` are above 0.
    pub fn log(low: f64, high: f64, from: f64, to: f64) -> Scale {
        let high = if high > low { high } else { low * 10.0 };
        Scale {
            low: low.log10(),
            high: high.log10(),
            from,
            to,
            log: true,
        }
    }

    /// Equal differences are equal distances.
    pub fn linear(low: f64, high: f64, from: f64, to: f64) -> Scale {
        let high = if high > low { high } else { low + 1.0 };
        Scale {
            low,
            high,
            from,
            to,
            log: false,
        }
    }

    /// The coordinate of a value; values beyond the ends are put at the ends.
    pub fn at(&self, value: f64) -> f64 {
        let value = match self.log {
            true => value.max(f64::MIN_POSITIVE).log10(),
            false => value,
        };
        let share = (value.clamp(self.low, self.high) - self.low) / (self.high - self.low);
        self.from + share * (self.to - self.from)
    }

    /// Round values to mark, between the ends.
    pub fn ticks(&self) -> Vec<f64> {
        if !self.log {
            let rough = (self.high - self.low) / 4.0;
            let power = 10_f64.powf(rough.log10().floor());
            let step = [1.0, 2.0, 5.0, 10.0]
                .into_iter()
                .map(|digit| digit * power)
                .find(|step| *step >= rough)
                .unwrap_or(10.0 * power);
            let first = (self.low / step).ceil() as i64;
            return (first..)
                .map(|index| index as f64 * step)
                .take_while(|tick| *tick <= self.high + step * 1e-6)
                .collect();
        }
        let decades = self.high - self.low;
        let (digits, every): (&[f64], i32) = match decades {
            _ if decades <= 1.4 => (&[1.0, 2.0, 5.0], 1),
            _ if decades <= 2.6 => (&[1.0, 3.0], 1),
            _ if decades <= 6.0 => (&[1.0], 1),
            _ => (&[1.0], 2),
        };
        let (first, last) = (self.low.floor() as i32, self.high.ceil() as i32);
        (first..=last)
            .filter(|power| power.rem_euclid(every) == 0)
            .flat_map(|power| digits.iter().map(move |digit| digit * 10_f64.powi(power)))
            .filter(|tick| {
                let place = tick.log10();
                place > self.low - 1e-9 && place < self.high + 1e-9
            })
            .collect()
    }
}

/// A chart with a name and a description for those who cannot see it.
pub fn svg(id: &str, width: f64, height: f64, title: &str, description: &str) -> Element {
    el("svg")
        .attr(
            "viewBox",
            format!("0 0 {} {}", coordinate(width), coordinate(height)),
        )
        .attr("role", "img")
        .attr("aria-labelledby", format!("{id}-t {id}-d"))
        .child(el("title").attr("id", format!("{id}-t")).text(title))
        .child(el("desc").attr("id", format!("{id}-d")).text(description))
}

/// A straight line.
pub fn line(class: &str, from: (f64, f64), to: (f64, f64)) -> Element {
    el("line")
        .class(class)
        .at("x1", from.0)
        .at("y1", from.1)
        .at("x2", to.0)
        .at("y2", to.1)
}

/// A word at a place: `start`, `middle` or `end` of it.
pub fn label(class: &str, anchor: &str, at: (f64, f64), text: impl Into<String>) -> Element {
    let label = el("text").at("x", at.0).at("y", at.1).text(text);
    let label = if class.is_empty() {
        label
    } else {
        label.class(class)
    };
    match anchor {
        "start" => label,
        anchor => label.attr("text-anchor", anchor),
    }
}

/// A line through points.
pub fn polyline(points: &[(f64, f64)]) -> Element {
    let mut text = String::new();
    for (x, y) in points {
        if !text.is_empty() {
            text.push(' ');
        }
        text += &coordinate(*x);
        text.push(',');
        text += &coordinate(*y);
    }
    el("polyline").class("curve").attr("points", text)
}

/// A figure at an axis: without zeros that say nothing.
pub fn tick(text: &str) -> String {
    let (number, unit) = text.split_at(
        text.find(|c: char| !matches!(c, '0'..='9' | '.' | ',' | '-'))
            .unwrap_or(text.len()),
    );
    match number.contains('.') {
        true => format!(
            "{}{unit}",
            number.trim_end_matches('0').trim_end_matches('.')
        ),
        false => text.to_owned(),
    }
}

/// At most so many characters; the end of what is longer is left out.
pub fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.push('\u{2026}');
    short
}

/// Moves labels apart: each keeps its order and has `gap` to the next, inside `low..high` where there is room.
pub fn spread(wanted: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by(|a, b| wanted[*a].total_cmp(&wanted[*b]));
    let mut places = vec![0.0; wanted.len()];
    let mut next = low;
    for index in &order {
        places[*index] = wanted[*index].max(next);
        next = places[*index] + gap;
    }
    let mut limit = high;
    for index in order.iter().rev() {
        places[*index] = places[*index].min(limit);
        limit = places[*index] - gap;
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_map_their_ends() {
        let scale = Scale::log(0.01, 1.0, 0.0, 100.0);
        assert_eq!(
            (scale.at(0.01), scale.at(0.1), scale.at(1.0)),
            (0.0, 50.0, 100.0)
        );
        assert_eq!((scale.at(0.0), scale.at(9.0)), (0.0, 100.0));
        assert_eq!(scale.ticks().len(), 5);
        let scale = Scale::linear(0.0, 8.0, 0.0, 80.0);
        assert_eq!(scale.at(2.0), 20.0);
        assert_eq!(scale.ticks(), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(Scale::linear(3.0, 3.0, 0.0, 1.0).at(3.0), 0.0);
    }

    #[test]
    fn ticks_are_short() {
        for (text, short) in [
            ("0.030", "0.03"),
            ("10.0", "10"),
            ("1.00e-6", "1e-6"),
            ("1.50 ms", "1.5 ms"),
            ("100", "100"),
            ("2.00M", "2M"),
        ] {
            assert_eq!(tick(text), short);
        }
    }

    #[test]
    fn labels_do_not_overlap() {
        let places = spread(&[10.0, 11.0, 90.0, 10.5], 12.0, 0.0, 95.0);
        assert_eq!(places, [10.0, 34.0, 90.0, 22.0]);
        let places = spread(&[94.0, 95.0], 12.0, 0.0, 95.0);
        assert_eq!(places, [83.0, 95.0]);
    }
}
