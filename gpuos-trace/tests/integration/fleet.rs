//! The table of a fleet: runs of several machines, asked the questions of `docs/reference/fleet-schema.md` by engines that people have.

use std::{path::Path, process::Command};

use crate::{
    export::python,
    support::{TRACER, known_calls},
    sweep::{run, text},
};
use gpuos_test_macros::privileged;

/// Answers of both engines to every statement of the document, one a line.
const ENGINES: &str = r"
import re, sys
import duckdb, polars
statements = re.findall(r'```sql\n(.*?)```', open(sys.argv[1]).read(), re.S)
files = f'{sys.argv[2]}/**/*.parquet'
duckdb.sql(f'create view fleet as select * from read_parquet({files!r}, hive_partitioning = true)')
tables = polars.SQLContext(fleet=polars.scan_parquet(files, hive_partitioning=True))
plain = lambda rows: [tuple(round(float(word), 6) if isinstance(word, float) else word for word in row) for row in rows]
# Numbers of engines have types of their own: decimals, floats.
number = lambda rows: [tuple(float(word) if hasattr(word, '__float__') else word for word in row) for row in rows]
for statement in statements:
    one = plain(number(duckdb.sql(statement).fetchall()))
    other = plain(number(tables.execute(statement, eager=True).rows()))
    assert one == other, (statement, one, other)
    print(one)
";

/// Traces a command into a file.
pub(crate) fn traced(words: &[&str], file: &Path) {
    let output = Command::new(TRACER).args(["run", "-q", "-o"]).arg(file).arg("--").args(words).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

#[privileged]
fn engines_give_the_same_answers_to_the_questions_of_the_document() {
    let folder = tempfile::tempdir().unwrap();
    let bench = Path::new(TRACER).with_file_name("bench");
    assert!(bench.exists(), "no bench; `cargo build --workspace` builds it");
    let bench = bench.to_str().unwrap();
    // Two memory calls a unit, and four.
    traced(&[bench, "alloc", "--backend", "host", "--iters", "50"], &folder.path().join("one.parquet"));
    traced(&[bench, "alloc", "--backend", "host", "--iters", "50", "--batch", "2"], &folder.path().join("two.csv"));
    traced(&[known_calls().to_str().unwrap(), "threads", "50", "3"], &folder.path().join("three.parquet"));
    for (node, files) in [("a", &["one.parquet", "three.parquet"][..]), ("b", &["two.csv"])] {
        // Written twice it is there once.
        for _ in 0..2 {
            let words =
                [&["fleet", "-o", "table", "--cluster", "west", "--node", node, "--pod", "p-0"], files].concat();
            let output = run(&words, folder.path());
            assert!(output.status.success(), "{}", text(&output));
            assert_eq!(text(&output).matches("rows: table/date=").count(), files.len(), "{}", text(&output));
        }
    }
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/fleet-schema.md");
    let answers = python(ENGINES, &[&document, &folder.path().join("table")]);
    let lines: Vec<&str> = answers.lines().collect();
    assert_eq!(lines.len(), 4, "{answers}");
    assert!(lines[0].contains("('bench', ") && lines[0].contains("('known_calls', "), "{answers}");
    // Both runs together: 100 units with 300 calls.
    assert_eq!(lines[1], "[('bench', None, 3.0)]", "{answers}");
    assert_eq!(lines[2], "[]", "{answers}");
    assert_eq!(lines[3], "[('a', 0.0, 2.0), ('b', 0.0, 1.0)]", "{answers}");
}

#[privileged]
fn what_cannot_be_a_row_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("other.csv"), "a,b\n1,2\n").unwrap();
    traced(&["true"], &folder.path().join("run.parquet"));
    let refused = run(&["fleet", "-o", "other", "other.csv", "run.parquet"], folder.path());
    assert_eq!(refused.status.code(), Some(125), "{}", text(&refused));
    let said = text(&refused);
    assert!(said.contains("`other.csv` is not added") && said.contains("1 of 2 files were not added"), "{said}");
    assert!(said.contains("rows: other/date="), "{said}");
    let refused = run(&["fleet", "-o", "table", "--cluster", "../up", "run.parquet"], folder.path());
    assert!(text(&refused).contains("`../up` cannot be the name of a cluster"), "{}", text(&refused));
    assert!(!folder.path().join("table").exists() && !folder.path().join("up").exists());
}
