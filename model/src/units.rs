//! Numbers as people read them.

/// With commas: `12,345`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place != 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Three significant digits and a unit: `87 ns`, `1.23 µs`, `45.6 ms`, `789 s`.
#[must_use]
pub fn duration(nanoseconds: u64) -> String {
    let (mut value, mut unit) = (nanoseconds as f64, "ns");
    for larger in ["µs", "ms", "s"] {
        if value < 999.5 {
            break;
        }
        value /= 1000.0;
        unit = larger;
    }
    match value {
        _ if unit == "ns" => format!("{nanoseconds} ns"),
        value if value < 9.995 => format!("{value:.2} {unit}"),
        value if value < 99.95 => format!("{value:.1} {unit}"),
        value => format!("{value:.0} {unit}"),
    }
}

/// Three significant digits and a unit: `512 B`, `1.50 KiB`, `64.0 MiB`.
#[must_use]
pub fn bytes(number: u64) -> String {
    let (mut value, mut unit) = (number as f64, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if value < 1000.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    match value {
        _ if unit == "B" => format!("{number} B"),
        value if value < 9.995 => format!("{value:.2} {unit}"),
        value if value < 99.95 => format!("{value:.1} {unit}"),
        value => format!("{value:.0} {unit}"),
    }
}

/// `12.3%`; small shares stay visible as `<0.1%`.
#[must_use]
pub fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    let percent = part as f64 * 100.0 / whole as f64;
    if part != 0 && percent < 0.05 { "<0.1%".to_owned() } else { format!("{percent:.1}%") }
}

/// `1 process`, `2 processes`.
#[must_use]
pub fn plural(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// Text from a traced program without characters that a terminal would obey: controls, those that change the direction of
/// what follows, and those that are not seen, by which two names look alike.
#[must_use]
pub fn printable(text: &str) -> String {
    let is_obeyed = |c: char| {
        let is_unseen =
            matches!(c, '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200d}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}');
        let turns =
            matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}');
        c.is_control() || is_unseen || turns
    };
    text.chars().flat_map(|c| if is_obeyed(c) { c.escape_default().collect() } else { vec![c] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 999, 1000, 1234567].map(count), ["0", "999", "1,000", "1,234,567"]);
        let durations = [0, 999, 1000, 1234, 12345, 999_499, 999_500, 1_000_000, 45_600_000, 3_600_000_000_000];
        let expected =
            ["0 ns", "999 ns", "1.00 µs", "1.23 µs", "12.3 µs", "999 µs", "1.00 ms", "1.00 ms", "45.6 ms", "3600 s"];
        assert_eq!(durations.map(duration), expected);
        assert_eq!(
            (share(1, 3), share(1, 100_000), share(0, 5), share(1, 0)),
            ("33.3%".into(), "<0.1%".into(), "0.0%".into(), "-".into())
        );
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\x1b[31mb\r\n\u{9b}é\u{202e}"), "a\\u{1b}[31mb\\r\\n\\u{9b}é\\u{202e}");
        // Two names that would look like one.
        assert_eq!(printable("py\u{200b}thon\u{e0061}\u{feff}"), "py\\u{200b}thon\\u{e0061}\\u{feff}");
    }
}
