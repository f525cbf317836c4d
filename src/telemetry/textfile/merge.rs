//! Makes one part of the page from all files: families of the same name under one HELP and TYPE.
//!
//! **Invariant:** pure. A file that does not fit those before it, in the order of their names, is left out whole.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::super::family::{self, FamilyData, Sample};
use super::super::text::{Kind, PageFormat, Text, in_openmetrics, prepare};
use super::{Fault, SERIES_MAX};

/// One file as it was read.
#[derive(Clone, Debug)]
pub(super) struct Read {
    /// Its name in the folder.
    pub(super) file: String,
    /// When it was last changed, in seconds since the epoch.
    pub(super) modified: f64,
    /// What is in it.
    pub(super) families: Result<Arc<Vec<FamilyData>>, Fault>,
}

/// The part of the page that comes from files, in both formats.
#[derive(Debug, Default)]
pub(in super::super) struct Section {
    text: Vec<u8>,
    openmetrics: Vec<u8>,
    /// The files that were left out, and why.
    pub(super) left_out: Vec<(String, Fault)>,
}

impl Section {
    /// The part in that format.
    pub(in super::super) fn in_format(&self, format: PageFormat) -> &[u8] {
        match format {
            PageFormat::Text => &self.text,
            PageFormat::OpenMetrics => &self.openmetrics,
        }
    }
}

/// Families of one name, from as many files as have them.
struct Merged<'a> {
    name: &'a str,
    kind: Kind,
    help: Option<&'a str>,
    first_file: &'a str,
    parts: Vec<&'a [Sample]>,
}

#[derive(Default)]
struct Page<'a> {
    families: Vec<Merged<'a>>,
    index: HashMap<&'a str, usize>,
    /// Every name that a family takes, in either format.
    names: HashSet<String>,
    /// Series, or what the samples of one histogram or summary have in common, by family.
    taken: HashSet<(usize, &'a str)>,
    series: usize,
}

/// All files together; `troubles` are what else kept files from being read, by name.
pub(super) fn merge(files: &[Read], troubles: Vec<(String, Fault)>) -> Section {
    let mut page = Page::default();
    let mut left_out = troubles;
    let mut taken = Vec::new();
    for read in files {
        match read.families.as_ref().map_err(Fault::clone).and_then(|families| page.add(&read.file, families)) {
            Ok(()) => taken.push((read.file.as_str(), read.modified)),
            Err(fault) => left_out.push((read.file.clone(), fault)),
        }
    }
    let failed = !left_out.is_empty();
    let written = |format| {
        let mut out = Vec::new();
        let mut text = Text::new(format, &mut out);
        page.write(&mut text);
        own(&taken, failed, &mut text);
        out
    };
    Section { text: written(PageFormat::Text), openmetrics: written(PageFormat::OpenMetrics), left_out }
}

/// What is told of the files themselves.
fn own(taken: &[(&str, f64)], failed: bool, text: &mut Text<'_>) {
    let help = "Whether a file of the textfile folder, or all of it, was left out of this page.";
    text.family("chiron_textfile_scrape_error", Kind::Gauge, help).flag(&[], failed);
    if taken.is_empty() {
        return;
    }
    let help = "When a file that was taken from the textfile folder was last changed.";
    let mut family = text.family("chiron_textfile_mtime_seconds", Kind::Gauge, help);
    for (file, modified) in taken {
        family.suffixed_float("", &prepare(&[("file", file)]), *modified);
    }
}

impl<'a> Page<'a> {
    /// Takes all families of a file, or none.
    fn add(&mut self, file: &'a str, families: &'a [FamilyData]) -> Result<(), Fault> {
        let series: usize = families.iter().map(|family| family.samples.len()).sum();
        if self.series + series > SERIES_MAX {
            return Err(Fault::new("too_many", format!("expected at most {SERIES_MAX} series in all files")));
        }
        let mut names = HashSet::new();
        for family in families {
            match self.index.get(&*family.name) {
                Some(index) if self.families[*index].kind != family.kind => {
                    return Err(Fault::new("clash", "expected one type for each metric, as in the files before"));
                }
                Some(index) => {
                    if family.samples.iter().any(|sample| self.taken.contains(&(*index, identity(family.kind, sample))))
                    {
                        return Err(Fault::new("duplicate", "expected series that no file before has"));
                    }
                }
                None => {
                    for name in names_of(&family.name, family.kind) {
                        if self.names.contains(&name) || !names.insert(name) {
                            let expected = "expected names that no other metric makes with its suffixes";
                            return Err(Fault::new("clash", expected));
                        }
                    }
                }
            }
        }
        self.series += series;
        self.names.extend(names);
        for family in families {
            let index = *self.index.entry(&family.name).or_insert_with(|| {
                let FamilyData { name, kind, .. } = family;
                self.families.push(Merged { name, kind: *kind, help: None, first_file: file, parts: Vec::new() });
                self.families.len() - 1
            });
            let merged = &mut self.families[index];
            merged.help = merged.help.or(family.help.as_deref());
            merged.parts.push(&family.samples);
            self.taken.extend(family.samples.iter().map(|sample| (index, identity(family.kind, sample))));
        }
        Ok(())
    }

    fn write(&self, text: &mut Text<'_>) {
        for merged in &self.families {
            let unnamed = format!("Metric read from {}.", merged.first_file);
            family::family(text, merged.name, merged.kind, merged.help.unwrap_or(&unnamed), &merged.parts);
        }
    }
}

fn identity(kind: Kind, sample: &Sample) -> &str {
    if matches!(kind, Kind::Histogram | Kind::Summary) { &sample.group } else { &sample.labels }
}

/// The names that OpenMetrics reserves for a family of that type, which hold all that the text format has.
fn names_of(name: &str, kind: Kind) -> Vec<String> {
    let (base, word) = in_openmetrics(name, kind);
    let suffixes: &[&str] = match word {
        "counter" => &["", "_total", "_created"],
        "histogram" => &["", "_bucket", "_sum", "_count", "_created"],
        "summary" => &["", "_sum", "_count", "_created"],
        _ => &[""],
    };
    suffixes.iter().map(|suffix| format!("{base}{suffix}")).collect()
}

#[cfg(test)]
mod tests;
