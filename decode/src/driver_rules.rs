//! Rules by which the kernel side reads the arguments of drivers, chosen for the version of NVIDIA's driver.
//!
//! Offsets of status words come from the generated tables; those of the few other fields are written here and
//! compared with `struct_offsets.csv` by a test.

use gpuos_tracer_abi::ioctl::{
    ANY_SIZE, DETAIL_CLASS, DETAIL_WORD, DRIVER_KFD, DRIVER_NVIDIA, DRIVER_NVIDIA_UVM, EFFECT_FORGET, EFFECT_HEAP,
    EFFECT_LEARN, EFFECT_MAP, NVIDIA_MODESET_RULES, QUEUE_ENDED, QUEUE_ENDED_BY_CLASS, QUEUE_MADE, QUEUE_MADE_BY_CLASS,
    RULES, Rule, StatusPlace, rule_index,
};

use crate::{
    kfd,
    nvidia::{escape_status, uvm_status},
    tables::StatusOffset,
    version::Version,
};

/// The newest version whose layouts are known: a later one is taken to be like it.
pub(crate) const NEWEST: &str = "595.45.04";

/// The first version with known layouts.
const OLDEST: &str = "515.43.04";

/// What to say of a version of the driver whose layouts are not known.
#[must_use]
pub fn outside(version: Option<&Version>) -> Option<String> {
    let Some(version) = version else {
        return Some(format!(
            "the version of NVIDIA's driver is not known (`--nvidia-driver`): calls are decoded as by {NEWEST}"
        ));
    };
    if !version.in_branch("", NEWEST) {
        return Some(format!(
            "NVIDIA's driver {version} is newer than the tables: calls are decoded as by {NEWEST}, names and statuses may be wrong"
        ));
    }
    (!version.in_branch(OLDEST, "")).then(|| {
        format!(
            "the layouts of NVIDIA's driver {version} are not known, the oldest is {OLDEST}: calls that it refused by a status count as successful"
        )
    })
}

/// An escape whose argument is read: its number, where its class, control command or function stands, or the
/// client and the handle of the object it is about; and the object that it makes or ends.
struct Escape {
    number: u32,
    rule: Rule,
}

const fn word(at: u32) -> Rule {
    Rule { detail: DETAIL_WORD, detail_at: at, ..Rule::NONE }
}

const fn class(client_at: u32, handle_at: u32) -> Rule {
    Rule { detail: DETAIL_CLASS, detail_at: handle_at, client_at, ..Rule::NONE }
}

const fn then(rule: Rule, effect: u32, object_client_at: u32, object_at: u32) -> Rule {
    Rule { effect, object_client_at, object_at, ..rule }
}

const ESCAPES: [Escape; 13] = [
    // NV_ESC_RM_ALLOC_MEMORY
    Escape { number: 0x27, rule: then(word(12), EFFECT_LEARN, 0, 8) },
    // NV_ESC_RM_ALLOC_OBJECT
    Escape { number: 0x28, rule: then(word(12), EFFECT_LEARN, 0, 8) },
    // NV_ESC_RM_FREE
    Escape { number: 0x29, rule: then(class(0, 8), EFFECT_FORGET, 0, 8) },
    // NV_ESC_RM_CONTROL
    Escape { number: 0x2a, rule: word(8) },
    // NV_ESC_RM_ALLOC
    Escape { number: 0x2b, rule: then(word(12), EFFECT_LEARN, 0, 8) },
    // NV_ESC_RM_DUP_OBJECT
    Escape { number: 0x34, rule: then(class(12, 16), EFFECT_LEARN, 0, 8) },
    // NV_ESC_RM_SHARE
    Escape { number: 0x35, rule: class(0, 4) },
    // NV_ESC_RM_VID_HEAP_CONTROL: 40 is where what the functions have of their own begins.
    Escape { number: 0x4a, rule: then(word(8), EFFECT_HEAP, 0, 40) },
    // NV_ESC_RM_MAP_MEMORY
    Escape { number: 0x4e, rule: then(class(0, 8), EFFECT_MAP, 0, 48) },
    // NV_ESC_RM_UNMAP_MEMORY
    Escape { number: 0x4f, rule: class(0, 8) },
    // NV_ESC_RM_MAP_MEMORY_DMA
    Escape { number: 0x57, rule: class(0, 12) },
    // NV_ESC_RM_UNMAP_MEMORY_DMA: the range of addresses; Vulkan leaves the memory out.
    Escape { number: 0x58, rule: class(0, 8) },
    // NV_ESC_RM_IDLE_CHANNELS has nothing to tell apart; it is here for its status alone.
    Escape { number: 0x41, rule: Rule::NONE },
];

/// The layouts that a version has: of those with one size, the last that is not newer.
fn places(offsets: &[StatusOffset], number: u32, version: Option<&Version>, sized: bool) -> Vec<StatusPlace> {
    let newest = Version::parse(NEWEST);
    let version = match (version, &newest) {
        (Some(version), Some(newest)) if version < newest => version.clone(),
        (_, Some(newest)) => newest.clone(),
        _ => return Vec::new(),
    };
    let mut places: Vec<StatusPlace> = Vec::new();
    for offset in offsets.iter().filter(|offset| offset.number == number) {
        // A layout without a size holds until another one follows.
        if !version.in_branch(offset.first, if sized { offset.last } else { "" }) {
            continue;
        }
        let size = if sized { offset.size } else { ANY_SIZE };
        places.retain(|place| place.size != size);
        places.push(StatusPlace { size, at: offset.at });
    }
    places
}

/// Every rule, in the order of the `RULES` map.
#[must_use]
pub fn rules(version: Option<&Version>) -> Vec<Rule> {
    let mut rules = vec![Rule::NONE; RULES as usize];
    let mut set = |index: Option<u32>, change: &dyn Fn(&mut Rule)| {
        if let Some(rule) = index.and_then(|index| rules.get_mut(index as usize)) {
            change(rule);
        }
    };
    for escape in &ESCAPES {
        set(rule_index(DRIVER_NVIDIA, escape.number), &|rule| *rule = escape.rule);
    }
    for (driver, offsets, sized) in [(DRIVER_NVIDIA, escape_status(), true), (DRIVER_NVIDIA_UVM, uvm_status(), false)] {
        for offset in offsets {
            let places = places(offsets, offset.number, version, sized);
            set(rule_index(driver, offset.number), &|rule| {
                for (place, found) in rule.status.iter_mut().zip(&places) {
                    *place = *found;
                }
            });
        }
    }
    set(Some(NVIDIA_MODESET_RULES), &|rule| *rule = word(0));
    for (escape, queue) in [(0x2b, QUEUE_MADE_BY_CLASS), (0x29, QUEUE_ENDED_BY_CLASS)] {
        set(rule_index(DRIVER_NVIDIA, escape), &|rule| rule.queue = queue);
    }
    for field in &kfd::FIELDS {
        set(rule_index(DRIVER_KFD, field.number), &|rule| *rule = word(field.at));
    }
    for (command, queue) in [(kfd::CREATE_QUEUE, QUEUE_MADE), (kfd::DESTROY_QUEUE, QUEUE_ENDED)] {
        set(rule_index(DRIVER_KFD, command), &|rule| rule.queue = queue);
    }
    set(rule_index(DRIVER_KFD, kfd::WAIT_EVENTS), &|rule| {
        rule.status[0] = StatusPlace { size: ANY_SIZE, at: kfd::WAIT_RESULT };
    });
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ioctls::OF_THE_KERNEL;
    use gpuos_tracer_abi::ioctl::{NO_STATUS, heap_function};

    fn statuses(version: &str, driver: u32, command: u32) -> Vec<(u32, u32)> {
        let rules = rules(Version::parse(version).as_ref());
        let rule = rules[rule_index(driver, command).unwrap() as usize];
        rule.status.iter().filter(|place| place.at != NO_STATUS).map(|place| (place.size, place.at)).collect()
    }

    #[test]
    fn the_version_decides_where_the_status_is() {
        let alloc = |version| statuses(version, DRIVER_NVIDIA, 0x2b);
        assert_eq!(alloc("515.43.04"), [(32, 24), (40, 32)]);
        assert_eq!(alloc("525.147.05"), [(32, 24), (40, 36)]);
        assert_eq!(alloc("580.159.04"), [(32, 28), (48, 40)]);
        assert_eq!(alloc("999.1"), [(32, 28), (48, 40)]);
        // A branch is its newest.
        assert_eq!(alloc("580"), [(32, 28), (48, 40)]);
        let uvm = |version, command| statuses(version, DRIVER_NVIDIA_UVM, command);
        // UVM_FREE and UVM_MAP_EXTERNAL_ALLOCATION.
        assert_eq!(uvm("580.159.04", 34), [(ANY_SIZE, 16)]);
        assert_eq!(uvm("590.44.01", 34), [(ANY_SIZE, 8)]);
        assert_eq!(uvm("590", 34), [(ANY_SIZE, 8)]);
        assert_eq!(uvm("550.40.07", 33), [(ANY_SIZE, 1196)]);
        assert_eq!(uvm("580.159.04", 33), [(ANY_SIZE, 9260)]);
        assert_eq!(statuses("", DRIVER_KFD, 0xc018_4b0c), [(ANY_SIZE, 20)]);
        assert_eq!(statuses("580.159.04", DRIVER_NVIDIA, 0x2a), [(32, 28)]);
    }

    #[test]
    fn what_the_kernel_answers_itself_meets_no_rule() {
        use gpuos_tracer_abi::ioctl::rule_of_call;
        let rules = rules(None);
        for (number, name) in OF_THE_KERNEL {
            for driver in [DRIVER_NVIDIA, DRIVER_NVIDIA_UVM, DRIVER_KFD] {
                let rule = rule_of_call(driver, number).map_or(Rule::NONE, |index| rules[index as usize]);
                assert_eq!(rule, Rule::NONE, "{name}, driver {driver}");
            }
        }
    }

    #[test]
    fn fields_stand_where_the_drivers_headers_put_them() {
        let text =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/data/ioctls/struct_offsets.csv")).unwrap();
        let at = |number: u32, field: &str| -> u32 {
            let row = text.lines().find(|line| {
                let mut columns = line.split(',');
                columns.next().is_some_and(|ioctl| ioctl.contains(&format!("({number:#04x})")))
                    && columns.nth(2).is_some_and(|name| name.trim_start_matches("params.") == field)
            });
            row.unwrap_or_else(|| panic!("{number:#x} {field}")).split(',').nth(4).unwrap().parse().unwrap()
        };
        let rule = |number: u32| ESCAPES.iter().find(|escape| escape.number == number).unwrap().rule;
        for (number, fields) in [
            (0x27, ["hClass", "", "hRoot", "hObjectNew"]),
            (0x28, ["hClass", "", "hRoot", "hObjectNew"]),
            (0x29, ["hObjectOld", "hRoot", "hRoot", "hObjectOld"]),
            (0x2a, ["cmd", "", "", ""]),
            (0x34, ["hObjectSrc", "hClientSrc", "hClient", "hObject"]),
            (0x35, ["hObject", "hClient", "", ""]),
            (0x4a, ["function", "", "hRoot", ""]),
            (0x4e, ["hMemory", "hClient", "", "fd"]),
            (0x4f, ["hMemory", "hClient", "", ""]),
            (0x57, ["hMemory", "hClient", "", ""]),
            (0x58, ["hDma", "hClient", "", ""]),
        ] {
            let rule = rule(number);
            let offsets = [rule.detail_at, rule.client_at, rule.object_client_at, rule.object_at];
            for (field, offset) in fields.iter().zip(offsets).filter(|(field, _)| !field.is_empty()) {
                assert_eq!(at(number, field), offset, "{number:#x} {field}");
            }
        }
    }

    #[test]
    fn the_heaps_functions_have_their_handles_where_the_header_puts_them() {
        let text =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/data/ioctls/struct_offsets.csv")).unwrap();
        let heap = ESCAPES.iter().find(|escape| escape.number == 0x4a).unwrap().rule;
        for (function, field) in [(2, "AllocSize"), (3, "Free"), (27, "AllocOsDesc")] {
            let row = text.lines().find(|line| line.contains(&format!("data.{field}.hMemory"))).unwrap();
            let at: u32 = row.split(',').nth(4).unwrap().parse().unwrap();
            assert_eq!(heap.object_at + heap_function(function).1, at, "{field}");
        }
    }
}
