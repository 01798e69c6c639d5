//! A page that a browser opens without anything else: Markdown with its plots in place.

use std::collections::BTreeMap;

use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd};

/// The page of a Markdown text. `plots` are SVG by the names that the text has for its images.
#[expect(clippy::wildcard_enum_match_arm, reason = "of the events of Markdown few are changed")]
pub fn html(title: &str, markdown: &str, plots: &BTreeMap<String, String>) -> String {
    let mut alternative = None;
    let events = Parser::new_ext(markdown, Options::ENABLE_TABLES).filter_map(|event| match event {
        // Of markup there is what folds a section; nothing that was traced becomes any.
        Event::Html(text) if is_fold(&text) => Some(Event::Html(text)),
        Event::Html(text) | Event::InlineHtml(text) => Some(Event::Text(text)),
        Event::Start(Tag::Image { dest_url, .. }) => {
            alternative = Some(String::new());
            let plot = plots.get(&*dest_url).map_or("", String::as_str);
            Some(Event::Html(CowStr::from(format!("<figure>{plot}</figure>"))))
        }
        Event::End(TagEnd::Image) => {
            alternative = None;
            None
        }
        _ if alternative.is_some() => None,
        Event::Start(Tag::Table(_)) => Some(Event::Html(CowStr::from("<div class=table><table>"))),
        Event::End(TagEnd::Table) => Some(Event::Html(CowStr::from("</tbody></table></div>"))),
        event => Some(event),
    });
    let mut body = String::new();
    pulldown_cmark::html::push_html(&mut body, events);
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title>\n<link rel=\"icon\" href=\"data:,\">\n<style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n"
    )
}

/// Begins a part that is folded; [`FOLD_ENDS`] ends it.
pub(crate) fn fold(summary: &str) -> String {
    format!("<details><summary>{}</summary>\n\n", escaped(summary))
}

/// See [`fold`].
pub(crate) const FOLD_ENDS: &str = "</details>\n\n";

/// Whether a block of markup is one that [`fold`] makes.
fn is_fold(text: &str) -> bool {
    let text = text.trim();
    let summary = text.strip_prefix("<details><summary>").and_then(|rest| rest.strip_suffix("</summary>"));
    text == FOLD_ENDS.trim() || summary.is_some_and(|words| !words.contains(['<', '>']))
}

const STYLE: &str = ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}\
.table{overflow-x:auto}table{border-collapse:collapse;font-size:.875rem}td,th{padding:.2rem .8rem .2rem 0;border-bottom:1px solid #8884;text-align:left;vertical-align:top}\
summary{cursor:pointer;padding:.2rem 0;font-weight:600}figure{margin:1rem 0;background:#fff;overflow-x:auto}svg{max-width:100%;height:auto;display:block}code{font-size:.875em}\
@media (prefers-color-scheme:dark){figure{filter:invert(.93) hue-rotate(180deg)}}\
@media print{body{max-width:none;margin:0}figure,tr{break-inside:avoid}h2{break-after:avoid}}";

/// Text of which no character means anything to XML, without those that XML has not.
pub fn escaped(text: &str) -> String {
    let text: String = text.chars().filter(|letter| !letter.is_control()).collect();
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Text of which no character means anything to Markdown.
pub fn plain(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    let is_word =
        |place: Option<usize>| place.and_then(|place| letters.get(place)).is_some_and(|c| c.is_alphanumeric());
    let mut safe = String::with_capacity(text.len());
    for (place, letter) in letters.iter().enumerate() {
        // Within a word a line below means nothing.
        let within = *letter == '_' && is_word(place.checked_sub(1)) && is_word(Some(place + 1));
        if "\\`*_{}[]<>#|!&~".contains(*letter) && !within {
            safe.push('\\');
        }
        safe.push(if letter.is_control() { ' ' } else { *letter });
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_to_markdown_is_escaped() {
        assert_eq!(plain("rt_sigprocmask _IOC(0) a|b\n*c*"), "rt_sigprocmask \\_IOC(0) a\\|b \\*c\\*");
    }

    #[test]
    fn plots_stand_in_place_and_nothing_else_is_markup() {
        let plots = BTreeMap::from([("one.svg".to_owned(), "<svg></svg>".to_owned())]);
        let text = format!(
            "# A\n\n| a | b |\n|---|---|\n| {} | 2 |\n\n![words](one.svg)\n\n<script>x</script>\n",
            plain("<b>|*x*")
        );
        let page = html("t<", &text, &plots);
        assert!(page.contains("<figure><svg></svg></figure>") && !page.contains("words"), "{page}");
        assert!(page.contains("<td>&lt;b&gt;|*x*</td>") && page.contains("&lt;script&gt;"), "{page}");
        assert!(!page.contains("<script") && page.contains("<title>t&lt;</title>"));
        let folded = html("t", &format!("{}| a |\n|---|\n| 1 |\n\n{FOLD_ENDS}b\n", fold("All <b>")), &plots);
        assert!(
            folded.contains("<details><summary>All &lt;b&gt;</summary>") && folded.contains("</table></div></details>"),
            "{folded}"
        );
        assert!(page.contains("<div class=table><table><thead>") && page.contains("</tbody></table></div>"), "{page}");
    }
}
