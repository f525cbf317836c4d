//! `process`: does a process run, and does it keep within its means?

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{AnyCheck, BuildContext, Check, CheckSpec, Judgement, Section, Timestamp};
use crate::base::clock::Clock;
use crate::base::files::{self, FileProblem};
use crate::model::Status;
use crate::observe::params;
use crate::observe::probes::process::{self as probe, Process, TICKS_PER_SECOND};

/// The kind as the registry lists it.
pub const SPEC: CheckSpec = CheckSpec { kind: ProcessCheck::KIND, doc: DOC, build };

/// A CPU share is measured over at least this time; ticks are too coarse for less.
const CPU_WINDOW: Duration = Duration::from_secs(1);

const DOC: &str = "\
# What it asks
Whether a process runs, found by its pid file, by a part of its command line, or both; and how much CPU, memory, threads
and open files it uses.

# Why it matters
A process that has ended, or is stopped or a zombie, does no work, however fresh its files may still look.

# Failure reasons
- `degraded`: it uses more than `max_cpu_percent` or `max_rss_bytes`.
- `critical`: it does not run; it is a zombie or stopped; the pid file is missing or holds no pid; or, where `match` is
  given too, the pid in it belongs to another process by now.
- `unknown`, and not run: `/proc` or the pid file may not be read.

# Parameters
- `pidfile`: a file whose first word is the pid; a relative one is below the workspace.
- `match`: a part of the command line, arguments joined by single spaces. Of several such processes the oldest counts;
  chiron itself never does.
- `max_cpu_percent` (none): share of one core, 100 for a whole one, since the check before.
- `max_rss_bytes` (none): resident memory.
";

/// How the process is found, and what it may use.
#[derive(Clone, Debug, Default)]
pub struct ProcessParams {
    /// Holds the pid.
    pub pidfile: Option<PathBuf>,
    /// A part of the command line.
    pub matching: Option<String>,
    /// Share of one core in percent.
    pub max_cpu_percent: Option<f64>,
    /// Resident memory.
    pub max_rss_bytes: Option<u64>,
}

/// One process.
#[derive(Debug)]
pub struct ProcessCheck {
    params: ProcessParams,
    clock: Clock,
    last: Mutex<Option<Sample>>,
}

/// What is remembered from one reading to the next.
#[derive(Clone, Copy, Debug)]
struct Sample {
    pid: i32,
    start_ticks: u64,
    cpu_ticks: u64,
    at: Duration,
    percent: Option<f64>,
    started: Timestamp,
}

/// The process as found.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    process: Process,
    cpu_percent: Option<f64>,
    open_files: Option<usize>,
    started: Timestamp,
}

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absent {
    /// It does not run; the sentence says what was looked for.
    NotRunning(String),
    /// It could not be looked for.
    Unseen(String),
}

impl ProcessCheck {
    /// A check of one process.
    pub fn new(params: ProcessParams, clock: Clock) -> Self {
        Self { params, clock, last: Mutex::new(None) }
    }

    fn look(&self, root: &Path) -> Result<Running, Absent> {
        let unseen = |problem: FileProblem| Absent::Unseen(format!("{}: {problem}", root.display()));
        let process = match &self.params.pidfile {
            Some(pidfile) => self.by_pidfile(root, pidfile)?,
            None => {
                let wanted = self.params.matching.as_deref().unwrap_or_default();
                self.by_match(root, wanted).map_err(unseen)?.ok_or_else(|| {
                    Absent::NotRunning(format!("no process runs whose command line contains `{wanted}`"))
                })?
            }
        };
        let sample = self.sample(&process);
        Ok(Running {
            cpu_percent: sample.percent,
            open_files: probe::open_files(root, process.pid),
            started: sample.started,
            process,
        })
    }

    fn by_pidfile(&self, root: &Path, pidfile: &Path) -> Result<Process, Absent> {
        let place = pidfile.display();
        let bytes = files::read_start(pidfile, 64).map_err(|problem| {
            let text = format!("{place}: {problem}");
            if problem.is_finding() { Absent::NotRunning(text) } else { Absent::Unseen(text) }
        })?;
        let text = String::from_utf8_lossy(&bytes.0).into_owned();
        let word = text.split_whitespace().next().unwrap_or_default();
        let pid: i32 =
            word.parse().ok().filter(|pid| *pid > 0).ok_or_else(|| {
                Absent::NotRunning(format!("{place}: found `{}`, expected a pid", word.escape_default()))
            })?;
        let process =
            probe::process(root, pid).map_err(|problem| Absent::Unseen(format!("process {pid}: {problem}")))?;
        let process = process.ok_or_else(|| Absent::NotRunning(format!("process {pid} of {place} does not run")))?;
        match &self.params.matching {
            Some(wanted) if !process.command.contains(wanted.as_str()) => {
                let command: String = process.command.chars().take(120).collect();
                let text = format!("process {pid} of {place} is `{command}`, expected `{wanted}` in its command line");
                Err(Absent::NotRunning(text))
            }
            _ => Ok(process),
        }
    }

    /// The process seen last, if it still is the one; otherwise the oldest that fits and is no zombie.
    fn by_match(&self, root: &Path, wanted: &str) -> Result<Option<Process>, FileProblem> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = last
            && let Some(process) = probe::process(root, last.pid)?
            && process.start_ticks == last.start_ticks
            && process.state != 'Z'
            && process.command.contains(wanted)
        {
            return Ok(Some(process));
        }
        let me = rustix::process::getpid().as_raw_nonzero().get();
        let mut best: Option<Process> = None;
        for pid in probe::pids(root)?.into_iter().filter(|pid| *pid != me) {
            // Of other users' processes the command line may be hidden; they cannot be the one then.
            let Ok(Some(command)) = probe::command(root, pid) else { continue };
            if !command.contains(wanted) {
                continue;
            }
            let Ok(Some(process)) = probe::process(root, pid) else { continue };
            let rank = |process: &Process| (process.state == 'Z', process.start_ticks, process.pid);
            if best.as_ref().is_none_or(|best| rank(&process) < rank(best)) {
                best = Some(process);
            }
        }
        Ok(best)
    }

    /// Remembers this reading and measures the CPU share since an earlier one of the same process.
    fn sample(&self, process: &Process) -> Sample {
        let at = self.clock.since_boot();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let sample = match *last {
            Some(last) if last.pid == process.pid && last.start_ticks == process.start_ticks => {
                let window = at.saturating_sub(last.at);
                if window < CPU_WINDOW {
                    return last;
                }
                let percent = cpu_percent(process.cpu_ticks.saturating_sub(last.cpu_ticks), window);
                Sample { cpu_ticks: process.cpu_ticks, at, percent: Some(percent), ..last }
            }
            _ => {
                let since = Duration::from_millis(process.start_ticks.saturating_mul(1000) / TICKS_PER_SECOND);
                let started = self.clock.now().minus(at.saturating_sub(since));
                Sample {
                    pid: process.pid,
                    start_ticks: process.start_ticks,
                    cpu_ticks: process.cpu_ticks,
                    at,
                    percent: None,
                    started: Timestamp::from_millis(started.millis() / 1000 * 1000),
                }
            }
        };
        *last = Some(sample);
        sample
    }
}

#[expect(clippy::cast_precision_loss, reason = "a percentage needs no more than 53 bits")]
fn cpu_percent(ticks: u64, window: Duration) -> f64 {
    100.0 * (ticks as f64 / TICKS_PER_SECOND as f64) / window.as_secs_f64()
}

impl Check for ProcessCheck {
    type Reading = Result<Running, Absent>;
    const KIND: &'static str = "process";

    async fn read(&self) -> Self::Reading {
        self.look(Path::new("/proc"))
    }

    fn judge(&self, reading: &Self::Reading, _now: Timestamp) -> Judgement {
        let running = match reading {
            Ok(running) => running,
            Err(Absent::NotRunning(error)) => return Judgement::new(Status::Critical).with("error", error.as_str()),
            Err(Absent::Unseen(error)) => return Judgement::unrunnable(error.as_str()),
        };
        let process = &running.process;
        let broken = match process.state {
            'Z' | 'X' => Some("is a zombie"),
            'T' => Some("is stopped"),
            _ => None,
        };
        let mut judgement = match broken {
            Some(what) => Judgement::new(Status::Critical).with("error", format!("process {} {what}", process.pid)),
            None => Judgement::new(Status::Healthy),
        };
        let mut warnings = Vec::new();
        if let (Some(found), Some(limit)) = (running.cpu_percent, self.params.max_cpu_percent)
            && found > limit
        {
            warnings.push(format!("CPU {found:.1} %, more than the limit of {limit} %"));
        }
        if let Some(limit) = self.params.max_rss_bytes
            && process.rss_bytes > limit
        {
            warnings.push(format!("{} bytes resident, more than the limit of {limit}", process.rss_bytes));
        }
        if !warnings.is_empty() {
            judgement = judgement.at_least(Status::Degraded).with("warning", warnings.join("; "));
        }
        judgement = judgement
            .with("pid", process.pid)
            .with("rss_bytes", process.rss_bytes)
            .with("threads", process.threads)
            .with("started", running.started.rfc3339());
        if let Some(open_files) = running.open_files {
            judgement = judgement.with("open_files", open_files);
        }
        if let Some(percent) = running.cpu_percent {
            judgement = judgement.with("cpu_percent", percent);
        }
        judgement
    }

    fn blocking(&self) -> bool {
        true
    }
}

fn build(section: &mut Section<'_>, context: &BuildContext) -> Option<Arc<dyn AnyCheck>> {
    let pidfile = section.has("pidfile").then(|| params::path(section, "pidfile", context));
    let matching = section.has("match").then(|| params::required_text(section, "match"));
    let max_cpu_percent = params::number(section, "max_cpu_percent");
    let max_rss_bytes = params::whole(section, "max_rss_bytes");
    if section.has("unit") {
        let hint = Some("name the process by `pidfile` or `match`".to_owned());
        section.reject("unit", "expected no unit: looking into a unit's control group comes in a later version", hint);
        return None;
    }
    if pidfile.is_none() && matching.is_none() {
        section.reject("pidfile", "expected `pidfile` or `match`", None);
        return None;
    }
    if max_cpu_percent.is_some_and(|limit| limit <= 0.0) {
        section.reject("max_cpu_percent", "expected more than zero", None);
    }
    // A key that was there but could not be taken is a problem already.
    let pidfile = match pidfile {
        Some(taken) => Some(taken?),
        None => None,
    };
    let matching = match matching {
        Some(taken) => Some(taken?),
        None => None,
    };
    let params = ProcessParams { pidfile, matching, max_cpu_percent, max_rss_bytes };
    Some(Arc::new(ProcessCheck::new(params, context.clock.clone())))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "processes are started to be looked at")]
mod tests {
    use super::*;
    use crate::observe::checks::testing::{NOW, run_at};
    use std::process::{Child, Command};

    /// A process of our own that is ended with the test.
    struct Own(Child);

    impl Own {
        fn start(seconds: &str) -> Self {
            Self(Command::new("/bin/sleep").arg(seconds).spawn().unwrap())
        }

        fn pid(&self) -> String {
            self.0.id().to_string()
        }

        fn signal(&self, signal: rustix::process::Signal) {
            rustix::process::kill_process(rustix::process::Pid::from_child(&self.0), signal).unwrap();
        }
    }

    impl Drop for Own {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn check(pidfile: Option<PathBuf>, matching: Option<&str>) -> ProcessCheck {
        let params = ProcessParams { pidfile, matching: matching.map(str::to_owned), ..ProcessParams::default() };
        ProcessCheck::new(params, Clock::system())
    }

    /// Waits for the kernel to show the process in one of `states`.
    fn until(own: &Own, states: &str) {
        loop {
            let found = probe::process(Path::new("/proc"), i32::try_from(own.0.id()).unwrap()).unwrap().unwrap();
            if states.contains(found.state) && found.command != "chiron" {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// OBS-7: running, stopped, a zombie, gone; by pid file and by command line.
    #[test]
    fn the_life_of_a_process() {
        let folder = tempfile::tempdir().unwrap();
        let pidfile = folder.path().join("bot.pid");
        let mut own = Own::start("86413.25");
        std::fs::write(&pidfile, format!("{}\n", own.pid())).unwrap();
        until(&own, "S");
        let by_file = check(Some(pidfile.clone()), Some("86413.25"));
        let by_match = check(None, Some("sleep 86413.25"));
        for check in [&by_file, &by_match] {
            let judgement = run_at(check, NOW);
            assert_eq!(judgement.status, Status::Healthy, "{judgement:?}");
            assert_eq!(judgement.details["pid"].to_string(), own.pid());
            assert!(judgement.details["rss_bytes"].as_u64().unwrap() > 0);
            assert_eq!(judgement.details["threads"], 1);
        }
        own.signal(rustix::process::Signal::STOP);
        until(&own, "T");
        assert!(run_at(&by_file, NOW).details["error"].as_str().unwrap().ends_with("is stopped"));
        own.signal(rustix::process::Signal::KILL);
        until(&own, "Z");
        let plain = check(Some(pidfile.clone()), None);
        let judgement = run_at(&plain, NOW);
        assert_eq!(judgement.status, Status::Critical);
        assert!(judgement.details["error"].as_str().unwrap().ends_with("is a zombie"));
        assert_eq!(run_at(&by_match, NOW).status, Status::Critical);
        own.0.wait().unwrap();
        let judgement = run_at(&plain, NOW);
        assert_eq!(judgement.status, Status::Critical);
        assert!(judgement.details["error"].as_str().unwrap().ends_with("does not run"), "{judgement:?}");
    }

    #[test]
    fn a_recycled_pid_and_spoilt_pid_files() {
        let folder = tempfile::tempdir().unwrap();
        let pidfile = folder.path().join("bot.pid");
        let own = Own::start("86414.25");
        until(&own, "S");
        for (content, error) in [
            (own.pid(), "expected `freqtrade` in its command line"),
            ("0".to_owned(), "found `0`, expected a pid"),
            ("-1".to_owned(), "expected a pid"),
            (String::new(), "found ``, expected a pid"),
            ("\u{1b}[2J".to_owned(), "expected a pid"),
        ] {
            std::fs::write(&pidfile, content).unwrap();
            let judgement = run_at(&check(Some(pidfile.clone()), Some("freqtrade")), NOW);
            assert_eq!(judgement.status, Status::Critical);
            assert!(judgement.details["error"].as_str().unwrap().contains(error), "{judgement:?}");
        }
        let judgement = run_at(&check(Some(folder.path().join("none")), None), NOW);
        assert_eq!((judgement.status, judgement.unrunnable), (Status::Critical, false));
    }

    #[test]
    fn both_sides_of_each_limit() {
        let params = ProcessParams {
            max_cpu_percent: Some(50.0),
            max_rss_bytes: Some(1000),
            matching: Some("x".to_owned()),
            pidfile: None,
        };
        let check = ProcessCheck::new(params, Clock::manual(NOW));
        for (cpu, rss, status) in
            [(Some(50.0), 1000, Status::Healthy), (Some(50.1), 1000, Status::Degraded), (None, 1001, Status::Degraded)]
        {
            let process = Process { pid: 7, state: 'S', rss_bytes: rss, ..Process::default() };
            let running = Running { process, cpu_percent: cpu, open_files: None, started: NOW };
            assert_eq!(Check::judge(&check, &Ok(running), NOW).status, status);
        }
        assert!(Check::judge(&check, &Err(Absent::Unseen("x".to_owned())), NOW).unrunnable);
    }

    #[test]
    fn the_cpu_share_is_measured_between_two_readings_of_one_process() {
        let clock = Clock::manual(NOW);
        let check = ProcessCheck::new(ProcessParams::default(), clock.clone());
        let at = |pid, ticks| Process { pid, cpu_ticks: ticks, start_ticks: 5, ..Process::default() };
        assert_eq!(check.sample(&at(1, 100)).percent, None);
        clock.advance(Duration::from_millis(500));
        assert_eq!(check.sample(&at(1, 150)).percent, None);
        clock.advance(Duration::from_millis(1500));
        assert_eq!(check.sample(&at(1, 200)).percent, Some(50.0));
        assert_eq!(check.sample(&at(1, 201)).percent, Some(50.0));
        assert_eq!(check.sample(&at(2, 300)).percent, None);
    }
}
