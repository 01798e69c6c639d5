//! Interventions and sessions become the list of pressures, as a user makes it.

use std::fs;

use crate::sweep::{run as tracer, text as said};
use gpuos_test_macros::privileged;

/// A plan whose intervention is judged: eleven blocks, three doses.
const PLAN: &str = "
name = \"mechanisms\"
seed = 1
blocks = 11

[[intervention]]
name = \"I1\"
constraint = \"C1\"
mechanism = \"a mapping for each allocation\"
reason = \"kept for k\"
base = { backend = \"host\", model = \"alloc\", bytes = \"4K\", iters = 32 }
option = \"--free-every\"
doses = [1, 2]
placebos = [\"role synchronization\"]
[[intervention.prediction]]
kind = \"role memory\"
shape = \"inverse\"
interval = [0.9, 1.1]
";

const PRESSURES: &str = "
least_us = 0.1
once = []

[[pressure]]
name = \"memory by piece\"
interventions = [\"I1\"]
cost = \"role memory elsewhere\"
fails = \"nothing says whose memory it is\"

[[pressure]]
name = \"waits\"
interventions = [\"I1\"]
cost = \"none\"
fails = \"nothing says for how long\"
";

/// Four units of work, of two mappings each, in a phase of their own.
const SESSION: &str = "
import json, mmap, sys
sys.path.insert(0, sys.argv[1])
import gpuos_phase
gpuos_phase.switch('model')
for _ in range(8):
    mmap.mmap(-1, 4096).close()
gpuos_phase.iterations(4)
gpuos_phase.switch('teardown')
usage = dict.fromkeys(['user_ns', 'system_ns', 'voluntary_switches', 'involuntary_switches', 'minor_faults', 'major_faults'], 4000)
waits = {'count': 4, 'wall_ns': 8000, 'cpu_ns': 4000}
print(json.dumps({'cell': 'model', 'wait': 'default', 'device': 'cpu', 'iters': 4, 'wall_ns': 2000000, 'p50_ns': 1000, 'usage': usage, 'waits': waits}))
";

#[privileged]
fn what_real_models_pay_is_ranked() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (name, text) in [("plan.toml", PLAN), ("pressures.toml", PRESSURES), ("session.py", SESSION)] {
        fs::write(at(name), text).unwrap();
    }
    let swept = tracer(&["sweep", "plan.toml", "-o", "data"], folder.path());
    assert!(said(&swept).contains("0 failed, 0 with losses"), "{}", said(&swept));
    fs::create_dir(at("sessions")).unwrap();
    let list = |more: &[&str]| {
        let words = ["pressures", "pressures.toml", "--mechanisms", "data", "--sessions", "sessions"];
        tracer(&[&words, more].concat(), folder.path())
    };
    let none = list(&[]);
    assert!(!none.status.success() && said(&none).contains("no session of a real model"), "{}", said(&none));
    let markers = concat!(env!("CARGO_MANIFEST_DIR"), "/../client/phase/python");
    let session = ["run", "--quiet", "-o", "sessions/a.parquet", "--", "/usr/bin/python3", "session.py", markers];
    let session = tracer(&session, folder.path());
    assert!(session.status.success(), "{}", said(&session));
    for name in ["sessions/a.bare.jsonl", "sessions/a.traced.jsonl"] {
        fs::write(at(name), &session.stdout).unwrap();
    }
    let made = list(&["-o", "list.json"]);
    assert!(made.status.success(), "{}", said(&made));
    let text = said(&made);
    assert!(text.contains("nothing says whose memory it is") && !text.contains("nothing says for how long"), "{text}");
    let list_of: serde_json::Value = serde_json::from_slice(&fs::read(at("list.json")).unwrap()).unwrap();
    let [first, last] = [&list_of["list"][0], &list_of["list"][1]];
    assert_eq!([&first["plan"]["name"], &last["plan"]["name"]], ["memory by piece", "waits"]);
    assert_eq!([&first["is_confirmed"], &first["is_met"], &last["is_met"]], [true, true, false]);
    // Two mappings, made and ended, are four calls a unit; a wait is a microsecond; 4 units in 2 ms.
    let unit = &list_of["units"][0];
    assert_eq!(unit["elsewhere"]["memory"]["calls"], 4.0);
    assert_eq!([&unit["wait_cpu_us"], &unit["per_second"], &unit["cpu_us"]], [1.0, 2000.0, 2.0]);
    assert_eq!(first["paid"][0]["per_second"], 2000.0);
    // A session of another program is not one without calls.
    let other =
        String::from_utf8(session.stdout.clone()).unwrap().replace("\"cell\": \"model\"", "\"cell\": \"other\"");
    for name in ["sessions/a.bare.jsonl", "sessions/a.traced.jsonl"] {
        fs::write(at(name), &other).unwrap();
    }
    let foreign = list(&[]);
    assert!(
        !foreign.status.success() && said(&foreign).contains("0 iterations in a phase `other`"),
        "{}",
        said(&foreign)
    );
    // A line that did no work is no zero.
    let broken = String::from_utf8(session.stdout).unwrap().replace("\"iters\": 4", "\"iters\": 0");
    fs::write(at("sessions/a.bare.jsonl"), broken).unwrap();
    let refused = list(&[]);
    assert!(!refused.status.success() && said(&refused).contains("did no unit of work"), "{}", said(&refused));
}
