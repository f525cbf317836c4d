//! From flags and file to [`Settings`]: the order in which the parts are taken, and the paths.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::intake::{Intake, Refusal, below, checked, span};
use super::read::{folder, read_config};
use super::subsystems::{Intervals, profile, subsystems};
use super::{Mode, Settings, alerts, bindings, failure_points, heal, hooks, limits, maintenance, web};
use crate::base::clock::Clock;
use crate::base::tree::{Node, Position, Problems, Section, Value, parse};
use crate::model::Problem;
use crate::observe::check::BuildContext;
use crate::store;

/// What the command line says; where it says something it wins over the file.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// `--config.file`.
    pub config_file: Option<PathBuf>,
    /// `--workspace`, relative to the current directory.
    pub workspace: Option<PathBuf>,
    /// `--mode`.
    pub mode: Option<Mode>,
    /// `--dry-run`.
    pub dry_run: bool,
    /// `--storage.url`.
    pub storage_url: Option<String>,
    /// `--web.listen-address`, repeatable.
    pub listen: Vec<SocketAddr>,
    /// `--web.telemetry-path`.
    pub telemetry_path: Option<String>,
    /// `--web.external-url`.
    pub external_url: Option<String>,
    /// `--web.config.file`, relative to the current directory.
    pub web_config_file: Option<PathBuf>,
    /// chiron's own environment, for what bindings pass on.
    pub environment: crate::execute::Environment,
}

/// Settings that are right, and what about them is probably not as meant.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// One line each.
    pub warnings: Vec<String>,
}

/// Reads the file that the flags name, if any, and checks it with them. `Err` holds every mistake, by position.
pub fn load(inputs: &Inputs, clock: Clock) -> Result<Loaded, Vec<Problem>> {
    let Some(file) = &inputs.config_file else { return load_text("", "", inputs, clock) };
    let text = read_config(file)?;
    load_text(&text, &file.to_string_lossy(), inputs, clock)
}

/// The same for a text; `file_name` is how it is named in problems, and relative paths are below its folder. Empty if
/// there is no file.
pub fn load_text(text: &str, file_name: &str, inputs: &Inputs, clock: Clock) -> Result<Loaded, Vec<Problem>> {
    let problems = Problems::new("");
    match crate::base::http::client() {
        Ok(http) => assemble(text, file_name, inputs, clock, http),
        Err(cause) => {
            problems.push(Position::default(), "", "", &format!("expected a working TLS set-up, but {cause}"), None);
            Err(problems.into_vec())
        }
    }
}

/// Keys that the specification has and that nothing listens to yet.
const LATER: [&str; 4] = ["endpoints", "data", "data_healing", "endpoint_healing"];

/// [`load_text`] with a client at hand.
pub(super) fn assemble(
    text: &str,
    file_name: &str,
    inputs: &Inputs,
    clock: Clock,
    http: reqwest::Client,
) -> Result<Loaded, Vec<Problem>> {
    let problems = Problems::new(file_name);
    let flags = Problems::new("");
    let file = (!file_name.is_empty()).then(|| absolute(Path::new(file_name)));
    let intake = Intake {
        file: file_name,
        problems: &problems,
        flags: &flags,
        elsewhere: RefCell::default(),
        folder: file.as_deref().and_then(Path::parent).map_or_else(|| absolute(Path::new(".")), Path::to_owned),
        warnings: RefCell::default(),
    };
    let settings = parse(text, &problems).and_then(|root| {
        let top = Section::open(&root, "", &problems)?;
        let digest = Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
        let mut settings = settings(top, &intake, inputs, clock, http, file, digest);
        settings.shown = Arc::new(super::show::shown(&settings, &root));
        Some(settings)
    });
    let warnings = intake.warnings.into_inner();
    let elsewhere = intake.elsewhere.into_inner();
    let mut list = flags.into_vec();
    list.extend(problems.into_vec());
    list.extend(elsewhere);
    // Two takers of one key may both have refused it.
    let mut seen = std::collections::HashSet::new();
    list.retain(|problem| seen.insert(problem.to_string()));
    match settings {
        Some(settings) if list.is_empty() => Ok(Loaded { settings, warnings }),
        _ => Err(list),
    }
}

fn settings(
    mut top: Section<'_>,
    intake: &Intake<'_>,
    inputs: &Inputs,
    clock: Clock,
    http: reqwest::Client,
    file: Option<PathBuf>,
    digest: String,
) -> Settings {
    let profile_name = top.word("profile", &[("quantum", "quantum"), ("none", "none")]).unwrap_or("quantum");
    let mode = top.word("mode", &[("paper", Mode::Paper), ("real", Mode::Real)]);
    let mode = inputs.mode.or(mode);
    let asked_dry = top.opt::<bool>("dry_run");
    if asked_dry == Some(false) && mode.is_none() {
        intake.warn_key(
            &mut top,
            "dry_run",
            "without `mode` nothing is acted upon all the same: add `mode: paper` or `mode: real`",
        );
    }
    let paths = paths(&mut top, intake, inputs);
    let check_interval = span(&mut top, "check_interval", Duration::from_secs(30));
    let critical_check_interval = span(&mut top, "critical_check_interval", Duration::from_secs(5));
    let (detect, stale_after) = limits::detection(&mut top);

    let mut policy_section = top.section("policy");
    let policy = limits::policy(policy_section.as_mut());
    let policy_file = own_file(policy_section.as_mut(), &paths, "safety_policy.json");
    let mut report_section = top.section("report");
    let report_file = own_file(report_section.as_mut(), &paths, "self_healing_report.json");
    report_section.into_iter().for_each(Section::finish);

    let mut own_files = vec![policy_file.clone(), report_file.clone(), paths.log_dir.join("operator_alerts.jsonl")];
    own_files.extend(crate::publish::POINTS_FILES.map(|name| paths.log_dir.join(name)));
    own_files.extend(crate::publish::HEALING_FILES.map(|name| paths.log_dir.join(name)));
    own_files.push(heal::state_dir(&paths.workspace));
    if let store::Settings::Sqlite(journal) = &paths.storage {
        let beside = |suffix: &str| {
            let mut name = journal.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        own_files.extend([
            journal.clone(),
            beside("-wal"),
            beside("-shm"),
            beside("-lock"),
            journal.with_extension("ballast"),
        ]);
    }
    let context = BuildContext {
        workspace: paths.workspace.clone(),
        folder: intake.folder.clone(),
        data_dir: paths.data_dir.clone(),
        log_dir: paths.log_dir.clone(),
        stale_after,
        own_files: Arc::new(own_files),
        clock,
        http,
        max_error_rate: detect.max_error_rate,
        max_latency: Duration::from_secs_f64(detect.max_latency_ms / 1e3),
    };
    let intervals = Intervals { check: check_interval, critical: critical_check_interval };
    let (subsystems, known) = subsystems(&mut top, intake, profile(profile_name), &context, intervals);
    let (failure_points, failure_points_every) =
        failure_points::failure_points(&mut top, intake, &known, &context, &subsystems);
    let (recommend, mut admit, preflight_every) = limits::recovery(&mut top, intake, &known);
    admit.groups = maintenance::groups(&mut top, intake, &known);
    admit.windows = maintenance::windows(&mut top, intake, &known, context.clock.now());
    admit.dry_run = inputs.dry_run || asked_dry == Some(true) || mode.is_none();
    let bindings = bindings::bindings(&mut top, intake, &known, &paths.workspace, &inputs.environment);
    let hooks = policy_section
        .as_mut()
        .map(|section| hooks::hooks(section, intake, &known, &context, &inputs.environment))
        .unwrap_or_default();
    policy_section.into_iter().for_each(Section::finish);
    let mut alerts = alerts::alerts(&mut top, intake, &known, &bindings);
    let around = heal::Around {
        profile: profile_name,
        workspace: paths.workspace.clone(),
        data_dir: paths.data_dir.clone(),
        log_dir: paths.log_dir.clone(),
        mode,
        dry_run: admit.dry_run,
        own_files: Arc::clone(&context.own_files),
    };
    let heal = heal::heal(&mut top, intake, around);
    let dashboard_port = later(&mut top, intake);
    let http = web::web(&mut top, intake, inputs, dashboard_port);
    alerts.send.external_url.clone_from(&http.external_url);
    let textfile_dir = textfile_dir(&mut top, intake, &paths.workspace);
    top.finish();
    Settings {
        file,
        digest,
        profile: profile_name.into(),
        workspace: paths.workspace,
        data_dir: paths.data_dir,
        log_dir: paths.log_dir,
        state_dir: paths.state_dir,
        mode,
        subsystems,
        failure_points,
        failure_points_every,
        disk_paths: paths.disks,
        own_files: context.own_files,
        check_interval,
        critical_check_interval,
        policy_file,
        report_file,
        detect,
        recommend,
        admit,
        policy,
        alerts,
        preflight_every,
        bindings,
        hooks,
        storage: paths.storage,
        heal,
        http,
        shown: Arc::default(),
        textfile_dir,
    }
}

/// Every folder, absolute.
struct Paths {
    workspace: PathBuf,
    data_dir: PathBuf,
    log_dir: PathBuf,
    state_dir: PathBuf,
    disks: Vec<PathBuf>,
    storage: store::Settings,
}

fn paths(top: &mut Section<'_>, intake: &Intake<'_>, inputs: &Inputs) -> Paths {
    let from_file = top.opt::<PathBuf>("workspace").map(|path| below(&intake.folder, &path));
    let from_flag = inputs.workspace.as_deref().map(absolute);
    let by_flag = from_flag.is_some();
    let workspace = from_flag.or(from_file).unwrap_or_else(|| absolute(Path::new(".")));
    match folder(&workspace) {
        Err((true, found)) if by_flag => {
            let shown = workspace.display().to_string();
            intake.flags.push(
                Position::default(),
                "--workspace",
                &shown,
                &format!("expected a folder, but it is {found}"),
                None,
            );
        }
        Err((true, found)) => top.reject("workspace", &format!("expected a folder, but it is {found}"), None),
        Err((false, found)) => {
            intake.warn_key(top, "workspace", &format!("`{}`: {found}", workspace.display()));
        }
        Ok(()) => {}
    }
    let data_dir = top.opt::<PathBuf>("data_dir").unwrap_or_else(|| "data".into());
    let log_dir = top.opt::<PathBuf>("log_dir").unwrap_or_else(|| "logs".into());
    let named_state = top.opt::<PathBuf>("state_dir").map(|path| below(&workspace, &path));

    let nothing = Node { value: Value::Null, at: top.position() };
    let mut section = match top.section("storage") {
        Some(section) => section,
        None => Section::open(&nothing, "storage", intake.problems).expect("null opens as an empty mapping"),
    };
    let flag = ("--storage.url", inputs.storage_url.as_deref());
    let storage = intake.flag_or_key(&mut section, "url", flag, |text| storage(text, &workspace));
    section.finish();
    let state_dir = named_state.unwrap_or_else(|| match &storage {
        Some(store::Settings::Sqlite(file)) => file.parent().map_or_else(|| workspace.join(".chiron"), Path::to_owned),
        _ => workspace.join(".chiron"),
    });
    let storage = storage.unwrap_or_else(|| store::Settings::Sqlite(state_dir.join("chiron.db")));

    let disks = top.opt::<Vec<PathBuf>>("disks");
    if disks.as_ref().is_some_and(Vec::is_empty) {
        top.reject("disks", "expected at least one path", None);
    }
    let disks =
        disks.map_or_else(|| vec![workspace.clone()], |list| list.iter().map(|path| below(&workspace, path)).collect());
    Paths {
        data_dir: below(&workspace, &data_dir),
        log_dir: below(&workspace, &log_dir),
        workspace,
        state_dir,
        disks,
        storage,
    }
}

/// What a storage URL names.
fn storage(text: &str, workspace: &Path) -> Result<store::Settings, Refusal> {
    let expected = "expected `sqlite:PATH` or `memory:`".to_owned();
    if text == "memory:" {
        return Ok(store::Settings::Memory);
    }
    if text.starts_with("postgres:") || text.starts_with("postgresql:") {
        let hint = Some("this version keeps its journal in SQLite; write sqlite:PATH".to_owned());
        return Err((expected, hint));
    }
    let Some(path) = text.strip_prefix("sqlite:") else {
        let hint = text.starts_with(['/', '.']).then(|| format!("write sqlite:{text}"));
        return Err((expected, hint));
    };
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.contains("memory:") {
        return Err((expected, Some("write memory:".to_owned())));
    }
    if path.is_empty() || path.ends_with('/') || path.contains('?') {
        return Err((expected, Some("name a file, such as sqlite:/var/lib/chiron/chiron.db".to_owned())));
    }
    Ok(store::Settings::Sqlite(below(workspace, Path::new(path))))
}

/// `file` of a section, or `name` in the data folder.
fn own_file(section: Option<&mut Section<'_>>, paths: &Paths, name: &str) -> PathBuf {
    let named = section.and_then(|section| section.opt::<PathBuf>("file"));
    named.map_or_else(|| paths.data_dir.join(name), |path| below(&paths.workspace, &path))
}

/// `metrics.textfile_dir`. A folder that is not there yet may come; until then the metrics say so too.
fn textfile_dir(top: &mut Section<'_>, intake: &Intake<'_>, workspace: &Path) -> Option<PathBuf> {
    let mut section = top.section("metrics")?;
    let path = section.opt::<PathBuf>("textfile_dir").map(|path| below(workspace, &path));
    match path.as_deref().map(folder) {
        Some(Err((true, found))) => {
            section.reject("textfile_dir", &format!("expected a folder, but it is {found}"), None);
        }
        Some(Err((false, found))) => intake.warn_key(&mut section, "textfile_dir", &found),
        Some(Ok(())) | None => {}
    }
    section.finish();
    path
}

/// Accepts what belongs to later versions and to the older shape, with a warning each; the port of the older shape.
fn later(top: &mut Section<'_>, intake: &Intake<'_>) -> Option<u16> {
    for key in LATER {
        if top.has(key) {
            intake.warn_key(top, key, &format!("`{key}` is accepted and has no effect in this version"));
        }
    }
    let mut port = None;
    if let Some(mut section) = top.section("monitoring") {
        let wanted =
            checked(&mut section, "dashboard_port", 0, "expected a port from 1 to 65535", |port: &u16| *port > 0);
        port = (wanted > 0).then_some(wanted);
        if top.entries("monitoring").iter().any(|(key, ..)| key != "dashboard_port") {
            let text = "`monitoring` is accepted and has no effect in this version, but for `dashboard_port`";
            intake.warn_key(top, "monitoring", text);
        }
    }
    port
}

/// `path` from the current directory, without `.` in it.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).components().collect()
}
