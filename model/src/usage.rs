//! What a process used of the machine.

use serde::{Deserialize, Serialize};

/// CPU time, context switches and page faults of a thread, a process or a tree of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// User CPU time in nanoseconds.
    pub user_ns: u64,
    /// System CPU time in nanoseconds.
    pub system_ns: u64,
    /// Context switches because a thread had to wait.
    pub voluntary_switches: u64,
    /// Context switches because another thread was to run.
    pub involuntary_switches: u64,
    /// Page faults served from memory.
    pub minor_faults: u64,
    /// Page faults that waited for a device.
    pub major_faults: u64,
}

impl Usage {
    /// Makes one from the value of each field, in their order.
    fn zip(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            user_ns: with(self.user_ns, other.user_ns),
            system_ns: with(self.system_ns, other.system_ns),
            voluntary_switches: with(self.voluntary_switches, other.voluntary_switches),
            involuntary_switches: with(self.involuntary_switches, other.involuntary_switches),
            minor_faults: with(self.minor_faults, other.minor_faults),
            major_faults: with(self.major_faults, other.major_faults),
        }
    }

    /// What was used since an earlier reading; 0 where a counter went back.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        self.zip(earlier, u64::saturating_sub)
    }

    /// What both used together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }

    /// Whether it is known: no process lives without a page fault, a switch or a nanosecond on a CPU.
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.minor_faults != 0 || self.voluntary_switches != 0 || self.user_ns != 0 || self.system_ns != 0
    }
}

impl std::ops::Add for Usage {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.zip(other, u64::saturating_add)
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_added_and_subtracted() {
        let one = Usage {
            user_ns: 1,
            system_ns: 2,
            voluntary_switches: 3,
            involuntary_switches: 4,
            minor_faults: 5,
            major_faults: 6,
        };
        assert_eq!((one + one).since(one), one);
        assert_eq!(Usage::default().since(one), Usage::default());
        assert!(one.is_known() && !Usage::default().is_known());
    }
}
