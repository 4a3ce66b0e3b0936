//! Figures as people read them.

/// At least three significant digits, with thousands set apart.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        "-".into()
    } else if size >= 99.95 {
        grouped(value)
    } else if size >= 9.995 {
        format!("{value:.1}")
    } else if size >= 0.995 || size == 0.0 {
        format!("{value:.2}")
    } else if size >= 1e-4 {
        let digits = 2 - size.log10().floor() as i32;
        format!("{value:.*}", digits as usize)
    } else {
        format!("{value:.2e}")
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 {
        text.insert(0, '-');
    }
    text
}

/// A ratio: two decimals, more digits below 0.1.
pub fn ratio(value: f64) -> String {
    if !value.is_finite() {
        "-".into()
    } else if value >= 99.5 {
        grouped(value)
    } else if value >= 9.95 {
        format!("{value:.1}")
    } else if value >= 0.0995 || value == 0.0 {
        format!("{value:.2}")
    } else if value >= 0.00995 {
        format!("{value:.3}")
    } else {
        format!("{value:.4}")
    }
}

/// A time in the unit that suits it.
pub fn seconds(value: f64) -> String {
    let size = value.abs();
    let (factor, unit) = match size {
        _ if size == 0.0 => (1.0, "s"),
        _ if size < 999.5e-9 => (1e9, "ns"),
        _ if size < 999.5e-6 => (1e6, "us"),
        _ if size < 0.9995 => (1e3, "ms"),
        _ => (1.0, "s"),
    };
    format!("{} {unit}", number(value * factor))
}

/// Bytes in the unit that suits them.
pub fn bytes(value: f64) -> String {
    let (mut value, mut unit) = (value, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if value.abs() < 1023.5 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    format!("{} {unit}", number(value))
}

/// Seconds in a unit of time.
pub fn time_unit(unit: &str) -> Option<f64> {
    Some(match unit {
        "s" | "seconds" => 1.0,
        "ms" => 1e-3,
        "us" => 1e-6,
        "ns" => 1e-9,
        _ => return None,
    })
}

/// A figure with its unit, scaled where that helps: `102k op/s`, `12.3 us/op`, `4.00 KiB`.
pub fn with_unit(value: f64, unit: &str) -> String {
    if !value.is_finite() {
        return "-".into();
    }
    let (first, rest) = match unit.find('/') {
        Some(slash) => unit.split_at(slash),
        None => (unit, ""),
    };
    if rest != "/s" {
        if let Some(factor) = time_unit(first) {
            return format!("{}{rest}", seconds(value * factor));
        }
        if matches!(first, "bytes" | "B" | "byte") {
            return format!("{}{rest}", bytes(value));
        }
    }
    let (value, prefix) = match value.abs() {
        size if size >= 999.5e6 => (value / 1e9, "G"),
        size if size >= 999.5e3 => (value / 1e6, "M"),
        size if size >= 9_999.5 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    format!("{}{prefix} {unit}", number(value))
        .trim_end()
        .to_owned()
}

/// A change: `+12.3 %`.
pub fn change(factor: f64) -> String {
    let percent = (factor - 1.0) * 100.0;
    if percent.abs() >= 999.5 {
        format!("x {}", ratio(factor))
    } else {
        format!("{percent:+.1} %")
    }
}

/// Seconds since 1970 as `2026-01-31 13:05 UTC`.
pub fn date(seconds: u64) -> String {
    // Days to a date of the Gregorian calendar: Howard Hinnant, "chrono-compatible low-level date algorithms".
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute) = (rest / 3600, rest / 60 % 60);
    format!("{year}-{month:02}-{of_month:02} {hour:02}:{minute:02} UTC")
}

/// A length of time as `1 h 02 min`, `3 min 20 s`, `12 s`.
pub fn span(seconds: u64) -> String {
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_digits_at_least() {
        for (value, text) in [
            (0.0, "0.00"),
            (1.234, "1.23"),
            (12.34, "12.3"),
            (123.4, "123"),
            (99.97, "100"),
            (1_234_567.8, "1,234,568"),
            (0.012_34, "0.0123"),
            (-5.0, "-5.00"),
            (-1234.0, "-1,234"),
            (0.000_001_2, "1.20e-6"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn units_are_scaled() {
        assert_eq!(with_unit(102_345.0, "op/s"), "102k op/s");
        assert_eq!(with_unit(5_230.0, "MB/s"), "5,230 MB/s");
        assert_eq!(with_unit(0.074, "s"), "74.0 ms");
        assert_eq!(with_unit(12_300.0, "ns/op"), "12.3 us/op");
        assert_eq!(with_unit(4096.0, "bytes/inode"), "4.00 KiB/inode");
        assert_eq!(with_unit(3.0, ""), "3.00");
        assert_eq!(with_unit(512.0, "bytes"), "512 B");
        assert_eq!(with_unit(2.5e9, "op/s"), "2.50G op/s");
    }

    #[test]
    fn ratios_keep_two_digits() {
        for (value, text) in [
            (1.0, "1.00"),
            (0.054, "0.054"),
            (0.1, "0.10"),
            (0.0099, "0.0099"),
            (12.345, "12.3"),
            (0.948, "0.95"),
        ] {
            assert_eq!(ratio(value), text);
        }
    }

    #[test]
    fn changes_have_a_sign() {
        assert_eq!(change(1.123), "+12.3 %");
        assert_eq!(change(0.5), "-50.0 %");
        assert_eq!(change(20.0), "x 20.0");
    }

    #[test]
    fn dates_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_767_225_599), "2025-12-31 23:59 UTC");
        assert_eq!(span(59), "59 s");
        assert_eq!(span(200), "3 min 20 s");
        assert_eq!(span(3725), "1 h 02 min");
    }
}
