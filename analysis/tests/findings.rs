//! Numbers of `study/phase1/findings.md` beside the data that they are of.

use std::path::{Path, PathBuf};

use serde_json::Value;

fn study() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../study/phase1")
}

fn text(file: &str) -> String {
    std::fs::read_to_string(study().join(file)).unwrap()
}

/// The paragraph or item that begins so.
fn paragraph(start: &str) -> String {
    let text = text("findings.md");
    let found = text.lines().find(|line| line.trim_start_matches("- ").starts_with(start));
    found.unwrap_or_else(|| panic!("no paragraph `{start}`")).replace('\u{2212}', "-")
}

/// The findings of a kind along a series.
fn kind<'a>(verdicts: &'a Value, series: &str, axis: &str) -> &'a Value {
    let all = verdicts["series"].as_array().unwrap();
    let found =
        all.iter().find(|one| one["name"] == series && one["axis"] == axis).unwrap_or_else(|| panic!("{series}"));
    &found["kinds"][0]
}

fn verdicts(folder: &str) -> Value {
    serde_json::from_str(&text(&format!("{folder}/verdicts.json"))).unwrap()
}

#[test]
fn equivalence_is_that_of_the_data() {
    let said = paragraph("**Whether inference is slowed**");
    for line in text("h200/equivalence/equivalence.txt").lines() {
        let after = |what: &str| line.split_once(what).unwrap().1;
        let (low, high) = after("90 % interval ").split_once(" to ").unwrap();
        let (low, high) = (low.trim_start_matches('+'), high.split(':').next().unwrap().trim_start_matches('+'));
        let pairs = after("A/B ").split(" pairs").next().unwrap();
        let margin = after("margin ").split(" %").next().unwrap();
        for number in [format!("{low} to {high} %"), format!("{pairs} pairs"), format!("margin {margin} %")] {
            assert!(said.contains(&number), "`{number}` of `{line}` is not in: {said}");
        }
        // The text says of each whether it is shown.
        let is_equivalent = line.contains(": equivalent within");
        assert_eq!(is_equivalent, line.starts_with("transformer"), "{line}");
    }
}

#[test]
fn verdicts_that_are_quoted_are_those_of_the_reports() {
    let said = paragraph("**Stacks that a CPU executes, by rule**");
    let data = verdicts("without-gpu");
    for (series, words) in [("vulkan kernel 100 iterations", "280 blocks"), ("opencl kernel 100 iterations", "1,163")] {
        let blocks = kind(&data, series, "bytes")["verdict"]["blocks_needed"].as_u64().unwrap();
        assert_eq!(words.replace(',', "").split(' ').next().unwrap(), blocks.to_string(), "{series}");
        assert!(said.contains(words), "{words}");
    }
    assert!(kind(&data, "opencl copy 100 iterations", "bytes")["verdict"]["blocks_needed"].is_null());
    // Five or six at once and no more: an allocation of llvmpipe's is not free of calls.
    let alloc = &kind(&data, "vulkan alloc 4 MiB", "iterations")["middles"];
    assert!(alloc.as_array().unwrap().iter().all(|calls| matches!(calls.as_f64(), Some(5.0 | 6.0))), "{alloc}");
    let copies = kind(&verdicts("h200/stacks"), "cuda copy 10 iterations", "bytes")["verdict"]["word"].clone();
    assert!(copies == "inconclusive" && paragraph("**Growth that was time**").contains("by rule inconclusive"));
    let models = verdicts("h200/inference");
    for (series, words) in [("cuda infer --model resnet18", "0.014"), ("cuda infer --model minilm", "0.013")] {
        let slope = kind(&models, series, "iterations")["verdict"]["slope"].as_f64().unwrap();
        assert!(format!("{slope:.3}") == words && paragraph("**Real models on CUDA**").contains(words), "{series}");
    }
}
