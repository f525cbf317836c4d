//! Pages of a list that changes: a cursor names the last item shown, so that what comes and goes elsewhere moves
//! nothing.
//!
//! **Invariant:** pure. Walking through all pages shows every item that was there throughout exactly once.

use super::problem::Problem;
use super::query::Params;

/// Items of a page, at most.
pub(super) const LIMIT_MAX: usize = 1_000;
/// Items of a page, unless asked for otherwise.
pub(super) const LIMIT: usize = 100;

/// Where an item stands: items are listed by rising place.
pub(super) type Place = (i64, String);

/// Which page is wanted.
#[derive(Debug)]
pub(super) struct Wanted {
    limit: usize,
    after: Option<Place>,
}

impl Wanted {
    /// As the parameters say; a cursor of another list is refused.
    pub(super) fn of(params: &Params, list: &str) -> Result<Self, Problem> {
        let limit = params.number("limit", 1..=LIMIT_MAX)?.unwrap_or(LIMIT);
        let after = match params.text("cursor") {
            None => None,
            Some(text) => Some(read(text, list).ok_or_else(|| {
                let detail = format!("found a cursor that is none of {list}, expected `next` of its last page");
                Problem::invalid(detail).coded("bad_cursor")
            })?),
        };
        Ok(Self { limit, after })
    }

    /// Behind which place what is wanted begins, and how many items show whether there is more.
    pub(super) fn reach(&self) -> (Option<&Place>, usize) {
        (self.after.as_ref(), self.limit + 1)
    }

    /// The page, and the cursor of the next one if there is more.
    pub(super) fn cut<T>(
        &self,
        items: impl IntoIterator<Item = T>,
        place: impl Fn(&T) -> Place,
        list: &str,
    ) -> (Vec<T>, Option<String>) {
        let after = self.after.as_ref();
        let mut placed: Vec<(Place, T)> = items
            .into_iter()
            .map(|item| (place(&item), item))
            .filter(|(place, _)| after.is_none_or(|after| place > after))
            .collect();
        placed.sort_by(|a, b| a.0.cmp(&b.0));
        let next = (placed.len() > self.limit).then(|| written(&placed[self.limit - 1].0, list));
        placed.truncate(self.limit);
        (placed.into_iter().map(|(_, item)| item).collect(), next)
    }
}

fn written((number, text): &Place, list: &str) -> String {
    format!("{list}|{number}|{text}").bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn read(cursor: &str, list: &str) -> Option<Place> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = cursor
        .as_bytes()
        .chunks(2)
        .map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?))
        .collect::<Option<Vec<u8>>>()?;
    let text = String::from_utf8(bytes).ok()?;
    let (number, text) = text.strip_prefix(list)?.strip_prefix('|')?.split_once('|')?;
    Some((number.parse().ok()?, text.to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(limit: usize, cursor: Option<&str>) -> Wanted {
        Wanted { limit, after: cursor.map(|cursor| read(cursor, "things").unwrap()) }
    }

    #[test]
    fn a_foreign_cursor_is_refused() {
        let good = written(&(-5, "a|b/1/1".to_owned()), "things");
        assert_eq!(read(&good, "things"), Some((-5, "a|b/1/1".to_owned())));
        for bad in ["", "0", "zz", "é", &good[1..], &good.to_uppercase()[..4], &written(&(1, String::new()), "thing")]
        {
            assert_eq!(read(bad, "things"), None, "{bad}");
        }
        let params = Params::of(&"/x?cursor=zz".parse().unwrap());
        assert_eq!(Wanted::of(&params, "things").unwrap_err().code, "bad_cursor");
    }

    proptest! {
        /// Every item that stays is shown exactly once, in order, whatever comes and goes between two pages.
        #[test]
        fn walking_shows_each_once(
            stays in prop::collection::btree_set((-3i64..3, "[a-c|]{0,2}"), 0..12),
            changes in prop::collection::vec(prop::collection::btree_set((-3i64..3, "[d-f]{1,2}"), 0..5), 1..12),
            limit in 1usize..5,
        ) {
            let (mut shown, mut cursor, mut round) = (Vec::new(), None::<String>, 0);
            loop {
                let moving = &changes[round % changes.len()];
                let now: Vec<Place> = stays.iter().chain(moving).cloned().collect();
                let (page, next) = wanted(limit, cursor.as_deref()).cut(now, Clone::clone, "things");
                prop_assert!(page.len() <= limit);
                shown.extend(page);
                round += 1;
                match next { Some(next) => cursor = Some(next), None => break }
            }
            prop_assert!(shown.is_sorted());
            let found: Vec<_> = shown.into_iter().filter(|place| stays.contains(place)).collect();
            prop_assert_eq!(found, stays.into_iter().collect::<Vec<_>>());
        }
    }
}
