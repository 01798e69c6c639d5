//! Words that may have been meant by a word that names nothing.

/// Up to three words that are nearly `word` (two edits at most) or begin with it, to suggest in an error.
#[must_use]
pub fn similar<'a>(word: &str, among: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut near: Vec<(usize, &str)> = among
        .map(|candidate| (strsim::levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 2 || candidate.starts_with(word) && word.len() > 2)
        .collect();
    near.sort_unstable();
    near.dedup();
    near.truncate(3);
    near.into_iter().map(|(_, candidate)| candidate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_what_was_meant() {
        assert_eq!(similar("ioctrl", ["read", "ioctl", "write"].into_iter()), ["ioctl"]);
        assert!(similar("xyzzy", ["read", "ioctl"].into_iter()).is_empty());
    }
}
