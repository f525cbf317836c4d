//! Who is affected by a broken subsystem, and which one is the root cause (OBS-6).

use std::collections::{BTreeSet, HashMap};

use crate::model::{Name, Subsystem};

/// The dependency graph, closed under "directly or through others".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Graph {
    affects: HashMap<Name, Vec<Name>>,
    needs: HashMap<Name, Vec<Name>>,
}

impl Graph {
    /// Builds the graph. Unknown names are ignored; a cycle has been refused with the settings, and would only make
    /// its members affect each other here.
    pub fn new(subsystems: &[Subsystem]) -> Self {
        let known: BTreeSet<&Name> = subsystems.iter().map(|subsystem| &subsystem.name).collect();
        let direct: HashMap<&Name, Vec<&Name>> = subsystems
            .iter()
            .map(|subsystem| {
                (&subsystem.name, subsystem.depends_on.iter().filter(|needed| known.contains(needed)).collect())
            })
            .collect();
        let mut graph = Self::default();
        for subsystem in subsystems {
            let mut closed = Vec::new();
            let mut next = direct.get(&subsystem.name).cloned().unwrap_or_default();
            while let Some(needed) = next.pop() {
                if *needed != subsystem.name && !closed.contains(needed) {
                    closed.push(needed.clone());
                    next.extend(direct.get(needed).into_iter().flatten());
                }
            }
            graph.needs.insert(subsystem.name.clone(), closed);
        }
        // In the order of the settings, so that reports are stable.
        for subsystem in subsystems {
            for needed in &graph.needs[&subsystem.name] {
                graph.affects.entry(needed.clone()).or_default().push(subsystem.name.clone());
            }
        }
        graph
    }

    /// Every subsystem that depends on `name`, directly or through others, in the order of the settings.
    pub fn affected_by(&self, name: &str) -> &[Name] {
        self.affects.get(name).map_or(&[], Vec::as_slice)
    }

    /// Everything `name` depends on, directly or through others.
    pub fn needed_by(&self, name: &str) -> &[Name] {
        self.needs.get(name).map_or(&[], Vec::as_slice)
    }

    /// A broken subsystem that `name` depends on and that itself depends on nothing broken.
    pub fn root_cause(&self, name: &str, is_broken: impl Fn(&str) -> bool) -> Option<&Name> {
        self.needed_by(name)
            .iter()
            .filter(|needed| is_broken(needed))
            .find(|needed| !self.needed_by(needed).iter().any(|deeper| is_broken(deeper)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Criticality;

    fn subsystems(edges: &[(&str, &[&str])]) -> Vec<Subsystem> {
        edges
            .iter()
            .map(|(name, needs)| Subsystem {
                name: (*name).into(),
                criticality: Criticality::Partial,
                depends_on: needs.iter().map(|need| (*need).into()).collect(),
            })
            .collect()
    }

    /// OBS-6: affected directly or through others, and the root cause is the deepest broken one.
    #[test]
    fn closure_and_root() {
        let graph = Graph::new(&subsystems(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &["missing"])]));
        assert_eq!(graph.affected_by("a"), ["b", "c"]);
        assert!(graph.affected_by("c").is_empty());
        assert_eq!(graph.root_cause("c", |name| name == "a" || name == "b"), Some(&"a".into()));
        assert_eq!(graph.root_cause("c", |name| name == "b"), Some(&"b".into()));
        assert_eq!(graph.root_cause("a", |_| true), None);
    }

    #[test]
    fn a_cycle_ends() {
        let graph = Graph::new(&subsystems(&[("a", &["b"]), ("b", &["a"])]));
        assert_eq!(graph.affected_by("a"), ["b"]);
    }
}
