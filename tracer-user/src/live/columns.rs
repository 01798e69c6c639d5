//! Columns as wide as what stands in them: a number is whole or its column is not there. Where space is short, the least important
//! columns go first, then names lose their ends.

use gpuos_model::units::printable;
use ratatui::{
    layout::Constraint,
    style::{Modifier, Style},
    text::Line as Text,
    widgets::{Row, Table},
};

/// Between two columns.
const GAP: usize = 1;
/// So wide columns of numbers are where there is room, so that they stand still while their numbers grow.
const STEADY: usize = 9;
/// Names are cut to so many characters before another column goes.
const NARROWEST_NAME: usize = 20;

/// A column of numbers, its texts at the right.
pub(super) struct Numbers {
    pub(super) head: &'static str,
    pub(super) cells: Vec<String>,
    /// How soon it goes: the highest first, 0 never.
    pub(super) dispensable: u8,
}

/// What a table has at its left: names with their styles.
pub(super) struct Names {
    pub(super) head: String,
    pub(super) cells: Vec<(String, Style)>,
}

/// What a table has at its right, drawn for the width that is left.
pub(super) type Picture<'a> = (String, usize, &'a dyn Fn(usize, usize) -> Text<'static>);

fn width(text: &str) -> usize {
    Text::from(text).width()
}

/// A name in so many characters; what is cut off leaves a sign.
fn cut(name: &str, room: usize) -> String {
    if width(name) <= room {
        return name.to_owned();
    }
    let mut short = String::new();
    for letter in name.chars() {
        if width(&short) + width(letter.encode_utf8(&mut [0; 4])) + 1 > room {
            break;
        }
        short.push(letter);
    }
    if room > 0 {
        short.push('…');
    }
    short
}

/// The table in so many characters. `pictures`: each with its head, how wide it is at least, and what it shows of a row in a width;
/// those that have no room are left out.
pub(super) fn fitted(
    names: &Names,
    mut numbers: Vec<Numbers>,
    pictures: &[Picture<'_>],
    room: usize,
) -> Table<'static> {
    let content = |column: &Numbers| column.cells.iter().map(|cell| width(cell)).fold(width(column.head), usize::max);
    let longest = names.cells.iter().map(|(name, _)| width(&printable(name))).fold(width(&names.head), usize::max);
    let name_room = longest.min(NARROWEST_NAME);
    let steady: usize = numbers.iter().map(|column| GAP + content(column).max(STEADY)).sum();
    let floor = if longest + steady <= room { STEADY } else { 0 };
    let widest = |column: &Numbers| content(column).max(floor);
    let all = |numbers: &[Numbers]| -> usize { numbers.iter().map(|column| GAP + widest(column)).sum() };
    while name_room + all(&numbers) > room {
        let least = numbers.iter().enumerate().filter(|(_, column)| column.dispensable > 0);
        let Some((place, _)) = least.max_by_key(|(_, column)| column.dispensable) else { break };
        numbers.remove(place);
    }
    // Numbers that never go have their place, whatever is left of the names.
    let left = room.saturating_sub(all(&numbers));
    let (name_width, mut left) = (longest.min(left), left.saturating_sub(longest.min(left)));
    let mut shown = Vec::new();
    for (head, least, draw) in pictures {
        if left >= least + GAP {
            let wide = if shown.len() + 1 == pictures.len() { left - GAP } else { *least };
            left -= wide + GAP;
            shown.push((head, wide, draw));
        }
    }
    let bold = Style::default().add_modifier(Modifier::BOLD);
    let right = |text: String| Text::from(text).right_aligned();
    let mut heads = vec![Text::from(cut(&names.head, name_width))];
    heads.extend(numbers.iter().map(|column| right(column.head.to_owned())));
    heads.extend(shown.iter().map(|(head, wide, _)| Text::from(cut(head, *wide))));
    let rows = names.cells.iter().enumerate().map(|(at, (name, style))| {
        let mut row = vec![Text::styled(cut(&printable(name), name_width), *style)];
        row.extend(numbers.iter().map(|column| right(column.cells[at].clone())));
        row.extend(shown.iter().map(|(_, wide, draw)| draw(at, *wide)));
        Row::new(row)
    });
    let length = |wide: usize| Constraint::Length(u16::try_from(wide).unwrap_or(u16::MAX));
    let widths = std::iter::once(length(name_width))
        .chain(numbers.iter().map(|column| length(widest(column))))
        .chain(shown.iter().map(|(_, wide, _)| length(*wide)))
        .collect::<Vec<_>>();
    Table::new(rows, widths).column_spacing(GAP as u16).header(Row::new(heads).style(bold))
}

#[cfg(test)]
mod tests {
    use ratatui::{buffer::Buffer, layout::Rect, widgets::Widget as _};

    use super::*;

    fn drawn(room: u16) -> String {
        let names = Names {
            head: "call".to_owned(),
            cells: vec![("a call with quite a long name".to_owned(), Style::default())],
        };
        let numbers = |head, text: &str, dispensable| Numbers { head, cells: vec![text.to_owned()], dispensable };
        let columns = vec![
            numbers("calls", "1,089,518", 0),
            numbers("errors", "", 3),
            numbers("total", "12.3 ms", 1),
            numbers("p50", "900 ns", 2),
        ];
        let picture = |_: usize, wide: usize| Text::from("#".repeat(wide));
        let area = Rect::new(0, 0, room, 2);
        let mut buffer = Buffer::empty(area);
        fitted(&names, columns, &[("by the second".to_owned(), 8, &picture)], room.into()).render(area, &mut buffer);
        (0..2)
            .map(|y| (0..room).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned() + "\n")
            .collect()
    }

    #[test]
    fn a_number_is_whole_or_not_there() {
        for room in 12..100 {
            let screen = drawn(room);
            assert!(screen.contains("1,089,518"), "{room}: {screen}");
            for (head, number) in [("total", "12.3 ms"), ("p50", "900 ns")] {
                assert_eq!(screen.contains(head), screen.contains(number), "{room}: {screen}");
            }
        }
    }

    #[test]
    fn the_least_important_goes_first_and_names_show_that_they_are_cut() {
        let wide = drawn(90);
        assert!(
            wide.contains("a call with quite a long name ") && wide.contains("by the second") && wide.contains("###"),
            "{wide}"
        );
        let narrow = drawn(46);
        assert!(
            narrow.contains("p50") && !narrow.contains("errors") && narrow.contains("a call with quite a"),
            "{narrow}"
        );
        assert!(narrow.contains('…') && !narrow.contains('#'), "{narrow}");
        let least = drawn(20);
        assert!(!least.contains("total") && least.starts_with("call "), "{least}");
    }
}
