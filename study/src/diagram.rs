//! The stack diagram and the contact map: who stands between an application and the hardware, and where each operation of a
//! stack touches the kernel. What committed data show has a solid frame, what is from sources a dashed one.

use std::{fmt::Write as _, path::Path};

use anyhow::{Context as _, Result};
use gpuos_analysis::{contact, page::escaped};

use crate::Files;

/// What committed data do not show says so in its column `observed`.
const FROM_SOURCE: &str = "source";

/// A box with words.
struct Cell {
    words: String,
    is_observed: bool,
}

/// Rows of boxes under heads.
struct Grid {
    title: String,
    heads: Vec<String>,
    rows: Vec<(String, Vec<Option<Cell>>)>,
}

const LEFT: usize = 12;
/// Of the names of rows.
const NAMES: usize = 96;
const WIDE: usize = 1000;
const LINE: usize = 14;

/// How wide a word is in the font, in pixels.
fn pixels(word: &str) -> f64 {
    let of = |letter: char| match letter {
        'm' | 'w' | 'M' | 'W' => 9.6,
        'i' | 'j' | 'l' | 't' | 'f' | ',' | '.' | ';' | ':' | '/' | ' ' => 4.2,
        _ if letter.is_uppercase() => 7.8,
        _ => 6.6,
    };
    word.chars().map(of).sum()
}

impl Grid {
    fn width(&self) -> usize {
        (WIDE - 2 * LEFT - NAMES) / self.heads.len().max(1)
    }

    /// The drawing from a height on, and where it ends.
    fn draw(&self, drawn: &mut String, top: usize) -> usize {
        let width = self.width();
        let left = |column: usize| LEFT + NAMES + column * width;
        let _ = write!(
            drawn,
            "<text x=\"{LEFT}\" y=\"{}\" font-size=\"13\" font-weight=\"bold\">{}</text>",
            top + 16,
            escaped(&self.title)
        );
        let mut y = top + 38;
        for (column, head) in self.heads.iter().enumerate() {
            let _ = write!(drawn, "<text x=\"{}\" y=\"{y}\" fill=\"#555\">{}</text>", left(column) + 4, escaped(head));
        }
        y += 8;
        for (name, cells) in &self.rows {
            let room = (width - 16) as f64;
            let lines: Vec<Vec<String>> = cells
                .iter()
                .map(|cell| cell.as_ref().map_or_else(Vec::new, |cell| wrapped(&cell.words, room)))
                .collect();
            let high = lines.iter().map(Vec::len).max().unwrap_or_default().max(1) * LINE + 8;
            for (line, words) in wrapped(name, (NAMES - 8) as f64).iter().enumerate() {
                let _ = write!(drawn, "<text x=\"{LEFT}\" y=\"{}\">{}</text>", y + 14 + line * LINE, escaped(words));
            }
            for (column, (cell, lines)) in cells.iter().zip(&lines).enumerate() {
                let Some(cell) = cell else { continue };
                let (fill, dash) =
                    if cell.is_observed { ("#e8f1fa", "") } else { ("#fff", " stroke-dasharray=\"4 3\"") };
                let _ = write!(
                    drawn,
                    "<rect x=\"{}\" y=\"{y}\" width=\"{}\" height=\"{high}\" rx=\"3\" fill=\"{fill}\" stroke=\"#456\"{dash}/>",
                    left(column) + 2,
                    width - 4,
                );
                for (line, words) in lines.iter().enumerate() {
                    let _ = write!(
                        drawn,
                        "<text x=\"{}\" y=\"{}\">{}</text>",
                        left(column) + 8,
                        y + 15 + line * LINE,
                        escaped(words)
                    );
                }
            }
            y += high + 6;
        }
        y + 10
    }
}

fn svg(title: &str, grids: &[Grid]) -> Vec<u8> {
    let mut drawn = String::new();
    let note = "Solid: committed data show it. Dashed: from sources and documentation.";
    let _ = write!(drawn, "<text x=\"{LEFT}\" y=\"18\" fill=\"#555\">{note}</text>");
    let mut top = 24;
    for grid in grids {
        top = grid.draw(&mut drawn, top);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDE} {top}\" width=\"{WIDE}\" font-family=\"sans-serif\" font-size=\"11\" fill=\"#111\" role=\"img\"><title>{}</title><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>{drawn}</svg>\n",
        escaped(title)
    )
    .into_bytes()
}

/// Lines that fit into a width in pixels; a longer word has a line of its own.
fn wrapped(text: &str, room: f64) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        if lines[last].is_empty() {
            lines[last].push_str(word);
        } else if pixels(&lines[last]) + pixels(" ") + pixels(word) <= room {
            lines[last].push(' ');
            lines[last].push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

/// Both diagrams.
///
/// # Errors
/// A table cannot be read, or names data that are not there.
pub(crate) fn all(study: &Path) -> Result<Files> {
    let contacts = contact::all();
    let mut stacks: Vec<&str> = Vec::new();
    for row in contacts {
        if !stacks.contains(&row.stack.as_str()) {
            stacks.push(&row.stack);
        }
        is_observed(study, &row.observed)?;
    }
    let grids: Vec<Grid> = stacks
        .iter()
        .map(|stack| {
            let rows = contacts.iter().filter(|row| row.stack == *stack).map(|row| {
                let observed = row.observed != FROM_SOURCE;
                let cell = |words: &str, is_observed| Some(Cell { words: words.to_owned(), is_observed });
                let cells =
                    vec![cell(&row.user_space, false), cell(&row.kernel_entry, observed), cell(&row.hardware, false)];
                (row.operation.clone(), cells)
            });
            Grid {
                title: (*stack).to_owned(),
                heads: ["user space", "what reaches the kernel", "hardware"].map(str::to_owned).to_vec(),
                rows: rows.collect(),
            }
        })
        .collect();
    let mut files = Files::new();
    files.insert(
        "background/contact-map.svg".into(),
        svg("Where an operation touches the kernel and the hardware", &grids),
    );
    files.insert("background/stack.svg".into(), svg("From application to hardware", &[stack_grid(study)?]));
    Ok(files)
}

/// Whether data show it; what is named must be there.
fn is_observed(study: &Path, named: &str) -> Result<bool> {
    if named == FROM_SOURCE {
        return Ok(false);
    }
    for name in named.split("; ") {
        let inside = name.strip_prefix("study/").filter(|inside| !inside.is_empty());
        let path = study.join(inside.with_context(|| format!("`{name}` is no file of the study"))?);
        path.exists().then_some(()).with_context(|| format!("`{name}` is named as data and is not there"))?;
    }
    Ok(true)
}

/// `background/stack.csv`: stack, layer, what stands there, and which data show it.
fn stack_grid(study: &Path) -> Result<Grid> {
    let path = study.join("background/stack.csv");
    let mut reader = csv::Reader::from_path(&path).with_context(|| path.display().to_string())?;
    let mut grid = Grid { title: "From application to hardware".to_owned(), heads: Vec::new(), rows: Vec::new() };
    for record in reader.deserialize() {
        let (stack, layer, words, observed): (String, String, String, String) = record?;
        let column = grid.heads.iter().position(|head| *head == stack).unwrap_or_else(|| {
            grid.heads.push(stack);
            grid.heads.len() - 1
        });
        let row = grid.rows.iter().position(|(name, _)| *name == layer).unwrap_or_else(|| {
            grid.rows.push((layer, Vec::new()));
            grid.rows.len() - 1
        });
        let cells = &mut grid.rows[row].1;
        cells.resize_with(cells.len().max(column + 1), || None);
        cells[column] = Some(Cell { words, is_observed: is_observed(study, &observed)? });
    }
    Ok(grid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_and_frames_say_what_was_seen() {
        assert_eq!(wrapped("one two three", pixels("one two")), ["one two", "three"]);
        let cell = |is_observed| Some(Cell { words: "ioctl".to_owned(), is_observed });
        let grid = Grid {
            title: "a<b".to_owned(),
            heads: vec!["one".to_owned(), "two".to_owned()],
            rows: vec![("row".to_owned(), vec![cell(true), cell(false)])],
        };
        let text = String::from_utf8(svg("t", &[grid])).unwrap();
        assert_eq!(text.matches("stroke-dasharray").count(), 1);
        assert!(text.contains("a&lt;b") && text.matches(">ioctl<").count() == 2, "{text}");
    }
}
