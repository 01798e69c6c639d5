//! Versions of NVIDIA's driver, such as `580.159.04`: they decide what its numbers mean.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A version, compared number by number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    numbers: Vec<u32>,
    text: String,
}

impl Version {
    /// Reads numbers joined by dots; `None` when that is not what the text is.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let numbers = text.split('.').map(|part| part.parse().ok()).collect::<Option<Vec<u32>>>()?;
        Some(Self { numbers, text: text.to_owned() })
    }

    /// Whether this version, or one of the branch that it names by its first numbers, is between two others.
    #[must_use]
    pub fn in_branch(&self, first: &str, last: &str) -> bool {
        // A branch begins with its number alone and ends below all numbers that could follow.
        let newest = Self { numbers: [&self.numbers[..], &[u32::MAX]].concat(), text: String::new() };
        let begins = Self::parse(first).is_none_or(|first| first <= newest);
        begins && Self::parse(last).is_none_or(|last| last >= *self)
    }

    /// The newest of these versions that is not newer than this one; this one itself where one of them is of the branch
    /// that it names, or all are newer.
    #[must_use]
    pub fn newest_known<'a>(&self, versions: impl Iterator<Item = &'a str>) -> Self {
        let known: Vec<Self> = versions.filter_map(Self::parse).collect();
        if known.iter().any(|version| version.numbers.starts_with(&self.numbers)) {
            return self.clone();
        }
        known.into_iter().filter(|version| version <= self).max().unwrap_or_else(|| self.clone())
    }

    /// 0 between two versions, the ends included; more the farther outside. An unreadable end is open.
    #[must_use]
    pub fn distance(&self, first: &str, last: &str) -> u64 {
        let value = |version: &Self| {
            let number = |at: usize| u64::from(version.numbers.get(at).copied().unwrap_or(0).min(0xffff));
            number(0) << 32 | number(1) << 16 | number(2)
        };
        let now = value(self);
        let before = Self::parse(first).map_or(0, |first| value(&first).saturating_sub(now));
        let after = Self::parse(last).map_or(0, |last| now.saturating_sub(value(&last)));
        before.max(after)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// The version in `/proc/driver/nvidia/version`: `NVRM version: NVIDIA UNIX … Kernel Module  580.159.04  …`.
#[must_use]
pub fn in_driver_text(text: &str) -> Option<Version> {
    text.lines().next()?.split_whitespace().filter(|word| word.contains('.')).find_map(Version::parse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        let version = |text| Version::parse(text).unwrap();
        assert!(version("580.9.1") < version("580.159.04"));
        assert!(version("565.77") < version("570.86.15"));
        assert_eq!(Version::parse("6.12+7.2"), None);
        assert!(version("570").in_branch("570.86.15", "595.45.04"));
        assert!(version("570").in_branch("515.43.04", "570.211.01"));
        assert!(!version("570").in_branch("575.51.02", "595.45.04"));
        assert!(!version("570.86.15").in_branch("515.43.04", "565.77"));
        assert!(version("570.86.15").in_branch("570.86.15", "570.86.15"));
        assert_eq!(version("580.159.04").distance("515.43.04", "595.45.04"), 0);
        assert_eq!(version("580.159.04").distance("515.43.04", ""), 0);
        assert!(version("580.159.04").distance("590.44.01", "") > 0);
        let known = |text| version(text).newest_known(["580.142", "515.43.04", "595.45.04", "6.12+7.2"].into_iter());
        assert_eq!(known("580.159.04"), version("580.142"));
        assert_eq!(
            (known("580"), known("600.1"), known("470")),
            (version("580"), version("595.45.04"), version("470"))
        );
        let near = version("600.1").distance("515.43.04", "595.45.04");
        assert!(near < version("600.1").distance("515.43.04", "570.211.01"));
    }

    #[test]
    fn finds_the_version_in_the_drivers_text() {
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build  (dvs-builder)\nGCC version:  gcc version 12.2.0 (Debian)";
        assert_eq!(in_driver_text(open).unwrap().to_string(), "580.159.04");
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.288.01  Thu Oct";
        assert_eq!(in_driver_text(closed).unwrap().to_string(), "535.288.01");
        assert_eq!(in_driver_text("nothing"), None);
    }
}
