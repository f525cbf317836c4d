//! The dependency graph of the subsystems (OBS-6): its cycles, and what is left of it without the disabled ones.
//!
//! **Invariant:** pure, and without recursion: a file of any size cannot exhaust the stack.

/// Every node after all that it depends on, or the cycles, each beginning with its smallest node.
pub(super) fn order(needs: &[Vec<usize>]) -> Result<Vec<usize>, Vec<Vec<usize>>> {
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
    let mut open: Vec<usize> = vec![0; needs.len()];
    for (node, list) in needs.iter().enumerate() {
        open[node] = list.len();
        for need in list {
            needed_by[*need].push(node);
        }
    }
    let mut order: Vec<usize> = (0..needs.len()).filter(|node| open[*node] == 0).collect();
    let mut next = 0;
    while let Some(node) = order.get(next).copied() {
        next += 1;
        for user in &needed_by[node] {
            open[*user] -= 1;
            if open[*user] == 0 {
                order.push(*user);
            }
        }
    }
    if order.len() == needs.len() { Ok(order) } else { Err(cycles(needs, &open)) }
}

/// The cycles among the nodes that `open` says could not be ordered. Each of those needs another of them, so following
/// the first such need always ends in a cycle.
fn cycles(needs: &[Vec<usize>], open: &[usize]) -> Vec<Vec<usize>> {
    let mut seen_in = vec![usize::MAX; needs.len()];
    let mut found = Vec::new();
    for start in (0..needs.len()).filter(|node| open[*node] > 0) {
        let mut path = Vec::new();
        let mut node = start;
        while seen_in[node] == usize::MAX {
            seen_in[node] = start;
            path.push(node);
            match needs[node].iter().find(|need| open[**need] > 0) {
                Some(need) => node = *need,
                None => break,
            }
        }
        let begins = path.iter().position(|seen| *seen == node);
        if let (true, Some(begins)) = (seen_in[node] == start, begins) {
            let mut cycle = path.split_off(begins);
            let least = (0..cycle.len()).min_by_key(|index| cycle[*index]).unwrap_or(0);
            cycle.rotate_left(least);
            found.push(cycle);
        }
    }
    found
}

/// What each node depends on once those that are not `kept` are left out; what they depended on takes their place, so
/// that who is affected stays true.
pub(super) fn without(needs: &[Vec<usize>], order: &[usize], kept: &[bool]) -> Vec<Vec<usize>> {
    let mut left: Vec<Vec<usize>> = vec![Vec::new(); needs.len()];
    for node in order {
        let mut list = Vec::new();
        for need in &needs[*node] {
            let instead: &[usize] = if kept[*need] { std::slice::from_ref(need) } else { &left[*need] };
            for need in instead {
                if !list.contains(need) {
                    list.push(*need);
                }
            }
        }
        left[*node] = list;
    }
    left
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cycles_are_found_and_told_once() {
        assert_eq!(order(&[vec![1], vec![2], vec![]]), Ok(vec![2, 1, 0]));
        assert_eq!(order(&[vec![0]]), Err(vec![vec![0]]));
        assert_eq!(order(&[vec![1], vec![2], vec![1]]), Err(vec![vec![1, 2]]));
        assert_eq!(order(&[vec![1], vec![0], vec![3], vec![2], vec![0, 2]]), Err(vec![vec![0, 1], vec![2, 3]]));
        let long: Vec<Vec<usize>> = (0..50_000).map(|node| vec![(node + 1) % 50_000]).collect();
        assert_eq!(order(&long).map_err(|cycles| cycles[0].len()), Err(50_000));
    }

    #[test]
    fn a_disabled_node_is_replaced_by_what_it_needs() {
        let needs = [vec![1, 2], vec![2, 3], vec![], vec![]];
        assert_eq!(
            without(&needs, &[2, 3, 1, 0], &[true, false, true, true]),
            [vec![2, 3], vec![2, 3], vec![], vec![]]
        );
    }

    proptest! {
        #[test]
        fn an_order_or_true_cycles(needs in (1..12_usize).prop_flat_map(|n| {
            prop::collection::vec(prop::collection::vec(0..n, 0..3), n)
        })) {
            match order(&needs) {
                Ok(order) => {
                    let place = |node: usize| order.iter().position(|other| *other == node);
                    for (node, list) in needs.iter().enumerate() {
                        for need in list {
                            prop_assert!(place(*need) < place(node));
                        }
                    }
                }
                Err(cycles) => {
                    prop_assert!(!cycles.is_empty());
                    for cycle in cycles {
                        for (index, node) in cycle.iter().enumerate() {
                            prop_assert!(needs[*node].contains(&cycle[(index + 1) % cycle.len()]));
                        }
                    }
                }
            }
        }
    }
}
