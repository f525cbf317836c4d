//! Groups of like targets: one at a time, and never so many that too few are left (`docs/reliability.md`, invariant 22).

use crate::model::Name;

/// Targets that stand in for each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its name.
    pub name: Name,
    /// Who; a subsystem is in at most one group.
    pub members: Vec<Name>,
    /// The share of all members that has to be healthy without the one that is acted upon, 0 to 1; default 0.5.
    pub min_healthy: f64,
}

impl Group {
    /// The group that a target is in, if it is in one.
    pub fn of<'a>(groups: &'a [Self], target: &str) -> Option<&'a Self> {
        groups.iter().find(|group| group.members.iter().any(|member| *member == *target))
    }

    /// Whether one of the members other than the target is being acted upon.
    pub fn is_busy(&self, target: &str, acted_upon: impl Fn(&str) -> bool) -> bool {
        self.others(target).any(|member| acted_upon(member))
    }

    /// Whether too few of the members other than the target are healthy.
    #[expect(clippy::cast_precision_loss, reason = "a group has fewer members than a float has whole numbers")]
    pub fn is_unhealthy(&self, target: &str, is_healthy: impl Fn(&str) -> bool) -> bool {
        let healthy = self.others(target).filter(|member| is_healthy(member)).count();
        // No rounding of a share asks for one more.
        (healthy as f64) < self.min_healthy * self.members.len() as f64 - 1e-9
    }

    fn others<'a>(&'a self, target: &'a str) -> impl Iterator<Item = &'a Name> {
        self.members.iter().filter(move |member| **member != *target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(members: &[&str], min_healthy: f64) -> Group {
        let members = members.iter().map(|name| Name::from(*name)).collect();
        Group { name: "routers".into(), members, min_healthy }
    }

    /// ACT-3: how many others have to be healthy, by size and share.
    #[test]
    fn a_share_of_all_members_stays_healthy() {
        const FIVE: &[&str] = &["a", "b", "c", "d", "e"];
        let table: [(&[&str], f64, usize); 9] = [
            // Members, share, others that have to be healthy.
            (&["a", "b"], 0.5, 1),
            (&["a", "b"], 0.6, 2),
            (&["a", "b", "c"], 0.5, 2),
            (&["a", "b", "c"], 0.3, 1),
            (FIVE, 0.5, 3),
            (FIVE, 0.8, 4),
            (FIVE, 0.0, 0),
            (&["a"], 0.0, 0),
            (&["a", "b", "c", "d"], 0.5, 2),
        ];
        for (members, share, needed) in table {
            let group = group(members, share);
            for healthy in 0..members.len() {
                let is_healthy = |name: &str| members[1..=healthy].contains(&name);
                assert_eq!(group.is_unhealthy("a", is_healthy), healthy < needed, "{members:?} {share} {healthy}");
            }
        }
        // The target's own health does not count.
        assert!(group(&["a", "b"], 0.5).is_unhealthy("a", |name| name == "a"));
    }

    #[test]
    fn another_member_is_busy() {
        let group = group(&["a", "b"], 0.5);
        assert!(group.is_busy("a", |name| name == "b"));
        assert!(!group.is_busy("a", |name| name == "a"), "that it is busy itself has its own reason");
        let groups = [group];
        assert!(Group::of(&groups, "b").is_some() && Group::of(&groups, "c").is_none());
    }
}
