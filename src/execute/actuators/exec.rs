//! `exec`: a command of the operator's.
//!
//! **Invariant:** never a shell, never a word from an alert; the command line is exactly what the settings say (SEC-5).
#![expect(clippy::disallowed_methods, reason = "looks at accounts, programs and folders off the async threads")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout_at};

use super::{ActuatorContext, ActuatorSpec, Span, Text};
use crate::base::redact::{self, REDACTED};
use crate::base::tree::{FromNode, Node, Section, Value};
use crate::execute::command::{self, End, Line};
use crate::execute::identity::{Identity, RunAs};
use crate::execute::program;
use crate::execute::survivors::{COMMAND_VARIABLE, RUN_KEY_VARIABLE, command_id};
use crate::execute::{Actuator, Answer, Environment, Order, ProbeAnswer};
use crate::model::{Ending, Means};

/// How the registry lists it.
pub const SPEC: ActuatorSpec = ActuatorSpec { key: "exec", doc: DOC, build };

const DOC: &str = "\
## What it calls

The program of `argv`, by its absolute path and without a shell, in `cwd` (the workspace if not given). Its environment is
`PATH=/usr/bin:/bin`, `HOME`, `USER` and `LOGNAME` of `user` if one is named, the variables that `env_from` lists with the
values that chiron itself was started with, what `env` adds, and `CHIRON_RUN_KEY`, `CHIRON_ACTION`, `CHIRON_SUBSYSTEM`,
`CHIRON_EPOCH`, `CHIRON_COMMAND_ID`, and for a hook of the policy `CHIRON_POLICY` and `CHIRON_POLICY_SEQUENCE`; of two
values the later one in this list counts. It reads nothing from stdin and leads a process group of its own.

Exit code 0 is success. The end is the exit of the program, not the closing of its pipes: a daemon that it started lives
on, and should have its output redirected, because nobody reads the pipe any more. At the timeout (the shorter of
`timeout` and the binding's) the process group gets SIGTERM, is let go on if it was stopped, and gets SIGKILL 2 s later.
A command whose turn comes only after the timeout is not started. The last 4 KiB of its output are kept. In what is shown
of the command line, arguments that may be secrets (`--token x`, `--password=x`, `-u user:x`) are left out.

## Permissions

It runs as the user that chiron runs as, or as `user` with its primary group or `group`, and no other groups. Another user
is for root alone, with `CAP_SETUID`, `CAP_SETGID`, `CAP_KILL`, and `CAP_SYS_PTRACE` to find the command again after a
crash; both are looked up in `/etc/passwd` and `/etc/group` at each run, and the program must be one of this machine or a
script that begins with `#!`. The program must be executable for that user, and only trusted users should be able to write
to it.

## Idempotence

Only what the command itself offers; declare it with the binding's `class`. A command that recognises `CHIRON_RUN_KEY`
is `keyed`. With `probe`, exit code 0 says that the effect happened, 1 that it did not, anything else that it cannot be
told; without, the subsystem's check is asked. A command that cannot be executed has not been started.
";

/// How long the probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);
/// How much longer than the action a probe may take, if the action may take less.
const PROBE_GRACE: Duration = Duration::from_secs(2);

/// A command with its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    /// The program, absolute, and its arguments; never empty.
    pub argv: Vec<String>,
    /// A limit of its own; the order's counts too, and the shorter one ends the command.
    pub timeout: Option<Duration>,
    /// Added to the environment.
    pub env: BTreeMap<String, String>,
    /// What of chiron's own environment is passed on.
    pub inherited: Inherited,
    /// Whom it runs as; chiron's own user by default.
    pub run_as: Option<RunAs>,
    /// The working directory, absolute or relative to chiron's own.
    pub cwd: PathBuf,
    /// The command that tells after a crash whether the effect happened.
    pub probe: Option<Vec<String>>,
}

/// Variables of chiron's own environment that a command gets (`env_from`).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Inherited {
    /// Those that chiron was started with.
    pub found: BTreeMap<String, String>,
    /// Those that it was not.
    pub absent: Vec<String>,
}

impl std::fmt::Debug for Inherited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inherited").field("found", &self.found.keys()).field("absent", &self.absent).finish()
    }
}

impl Exec {
    /// The command line with the environment of `order`, or why it cannot be run as the user that is asked for.
    async fn line(&self, argv: &[String], order: &Order) -> Result<Line, String> {
        let identity = match self.run_as.clone() {
            None => None,
            Some(run_as) => {
                let program = PathBuf::from(&argv[0]);
                let looked = tokio::task::spawn_blocking(move || {
                    let identity = run_as.resolve()?;
                    // What the kernel refuses would be handed to a shell on this way.
                    program::bad_format(&program, 0).map_or(Ok(identity), Err)
                });
                Some(looked.await.map_err(|error| error.to_string())??)
            }
        };
        let mut env = BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
        if let (Some(identity), Some(run_as)) = (&identity, &self.run_as) {
            let named = [("HOME", &identity.home), ("USER", &run_as.user), ("LOGNAME", &run_as.user)];
            env.extend(named.map(|(name, value)| (name.to_owned(), value.clone())));
        }
        let given = self.inherited.found.iter().chain(&self.env);
        env.extend(given.map(|(name, value)| (name.clone(), value.clone())));
        env.extend([
            (RUN_KEY_VARIABLE.to_owned(), order.key.to_string()),
            ("CHIRON_ACTION".to_owned(), order.action.to_string()),
            ("CHIRON_SUBSYSTEM".to_owned(), order.target.to_string()),
            ("CHIRON_EPOCH".to_owned(), order.epoch.to_string()),
        ]);
        if !order.about.symbol.is_empty() {
            env.insert("CHIRON_SYMBOL".to_owned(), order.about.symbol.clone());
        }
        // What a hook of the policy tells.
        if order.about.sequence > 0 {
            env.insert("CHIRON_POLICY".to_owned(), order.about.policy.to_owned());
            env.insert("CHIRON_POLICY_SEQUENCE".to_owned(), order.about.sequence.to_string());
        }
        let ids = identity.map(|Identity { uid, gid, .. }| (uid, gid));
        Ok(Line { argv: argv.to_vec(), env: env.into_iter().collect(), cwd: self.cwd.clone(), ids })
    }

    /// What would keep it from working, looked at on this thread.
    fn doubts(&self) -> Vec<String> {
        let absent =
            |name: &String| format!("`{name}` of `env_from` is not in chiron's environment, so it is not passed on");
        let mut doubts: Vec<_> = self.inherited.absent.iter().map(absent).collect();
        let user = match self.run_as.as_ref().map(RunAs::resolve).transpose() {
            Ok(user) => user,
            Err(why) => {
                doubts.push(why);
                None
            }
        };
        let programs = std::iter::once(&self.argv).chain(&self.probe).filter_map(|argv| argv.first());
        doubts.extend(programs.filter_map(|program| program::unusable(Path::new(program), user.as_ref())));
        if !self.cwd.is_dir() {
            doubts
                .push(format!("`{}` is not a directory, expected the command's working directory", self.cwd.display()));
        }
        doubts
    }
}

#[async_trait]
impl Actuator for Exec {
    fn means(&self) -> Means {
        Means::Exec
    }

    async fn apply(&self, order: &Order) -> Answer {
        let limit = self.timeout.map_or(order.timeout, |own| own.min(order.timeout));
        let deadline = Instant::now() + limit;
        let answer = |ending, detail: String, output| Answer { output, ..Answer::new(ending, detail) };
        let mut line = match timeout_at(deadline, self.line(&self.argv, order)).await {
            Ok(Ok(line)) => line,
            Ok(Err(why)) => return answer(Ending::NotStarted, why, String::new()),
            Err(_) => {
                let why = format!("`{}` and its user could not be looked at within {limit:?}", self.argv[0]);
                return answer(Ending::NotStarted, why, String::new());
            }
        };
        line.env.push((COMMAND_VARIABLE.to_owned(), command_id(&self.argv)));
        let (end, output) = command::run(&line, deadline).await;
        match end {
            End::Exited(status) if status.success() => answer(Ending::Ok, command::describe(status), output),
            End::Exited(status) => answer(Ending::Failed, command::describe(status), output),
            End::TimedOut(how) => {
                answer(Ending::Timeout, format!("not done after {limit:?}, process group ended by {how}"), output)
            }
            End::Hangs => {
                let detail = format!(
                    "its start has not come back within {limit:?}; whether it happened is not known, and it is ended as \
                     soon as it has begun"
                );
                answer(Ending::Timeout, detail, output)
            }
            End::NotStarted(why) => {
                let detail = format!("`{}` cannot be executed in `{}`: {why}", self.argv[0], self.cwd.display());
                answer(Ending::NotStarted, detail, output)
            }
            End::Lost(why) => answer(Ending::Failed, format!("whether it worked is not known: {why}"), output),
        }
    }

    async fn probe(&self, order: &Order) -> ProbeAnswer {
        let Some(argv) = &self.probe else { return ProbeAnswer::AskCheck };
        // Before the outer limit, so that a probe that hangs is ended here.
        let deadline = Instant::now() + PROBE_TIMEOUT.min(order.timeout.saturating_add(PROBE_GRACE));
        let Ok(Ok(line)) = timeout_at(deadline, self.line(argv, order)).await else { return ProbeAnswer::Unknown };
        match command::run(&line, deadline).await.0 {
            End::Exited(status) => match status.code() {
                Some(0) => ProbeAnswer::Happened,
                Some(1) => ProbeAnswer::DidNotHappen,
                _ => ProbeAnswer::Unknown,
            },
            _ => ProbeAnswer::Unknown,
        }
    }

    async fn preflight(&self) -> Vec<String> {
        let exec = self.clone();
        let looked = tokio::task::spawn_blocking(move || exec.doubts()).await;
        looked.unwrap_or_else(|error| vec![format!("it cannot be looked at: {error}")])
    }

    fn describe(&self) -> String {
        let user = self.run_as.as_ref().map_or_else(String::new, |run_as| format!(" as {}", run_as.user));
        format!("run {}{user}", quoted(&redact::arguments(&self.argv)))
    }
}

/// A command line for people; words with anything unusual are quoted.
fn quoted(argv: &[String]) -> String {
    let plain = |word: &str| {
        let bytes = word.replace(REDACTED, "_");
        !word.is_empty() && bytes.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-+=:,@%*".contains(&byte))
    };
    let words = argv.iter().map(|word| if plain(word) { word.clone() } else { format!("{word:?}") });
    words.collect::<Vec<_>>().join(" ")
}

fn build(section: &mut Section<'_>, context: &ActuatorContext) -> Option<Arc<dyn Actuator>> {
    let argv = section.req::<Argv>("argv");
    let timeout = section.opt::<Span>("timeout").map(|span| span.0);
    let env = section.opt::<Env>("env").map(|env| env.0).unwrap_or_default();
    let inherited =
        section.opt::<Vec<String>>("env_from").map(|names| inherited(section, &names, &context.environment));
    let user = account(section, "user");
    let group = account(section, "group");
    if user.is_none() && group.is_some() {
        section.reject("group", "expected `user` beside it", None);
    }
    let run_as = user.map(|user| RunAs { user, group });
    let cwd = section.opt::<Text>("cwd").map_or_else(|| context.workspace.clone(), |cwd| context.workspace.join(cwd.0));
    if let Some(Err((rule, hint))) = context.probe.as_deref().map(check_argv) {
        section.reject("probe", &rule, hint);
        return None;
    }
    let (argv, inherited) = (argv?.0, inherited.unwrap_or_default());
    env.iter().for_each(|(name, value)| remember(name, value));
    for words in std::iter::once(&argv).chain(&context.probe) {
        redact::secrets(words).into_iter().for_each(redact::remember);
    }
    Some(Arc::new(Exec { argv, timeout, env, inherited, run_as, cwd, probe: context.probe.clone() }))
}

/// What chiron's own environment has of the variables that are asked for.
fn inherited(section: &mut Section<'_>, names: &[String], environment: &Environment) -> Inherited {
    let mut inherited = Inherited::default();
    for name in names {
        if name.is_empty() || name.contains(['=', '\0']) || name.starts_with("CHIRON_") {
            let rule = format!("expected names of variables, but `{name}` cannot be one that is passed on");
            let own = name.starts_with("CHIRON_").then(|| "names beginning with CHIRON_ are set by chiron".to_owned());
            section.reject("env_from", &rule, own);
        }
        match environment.get(name) {
            Some(value) => {
                remember(name, value);
                inherited.found.insert(name.clone(), value.to_owned());
            }
            None => inherited.absent.push(name.clone()),
        }
    }
    inherited
}

/// Keeps the value of a variable out of all that is shown if variables of that name usually hold a secret: a command
/// prints its environment sooner or later.
fn remember(name: &str, value: &str) {
    let name = name.to_ascii_uppercase();
    let names_a_file = ["_FILE", "_PATH", "_DIR"].iter().any(|ending| name.ends_with(ending));
    if !names_a_file && ["PASS", "SECRET", "TOKEN", "KEY", "CREDENTIAL"].iter().any(|part| name.contains(part)) {
        redact::remember(value);
    }
}

/// The name of a user or a group.
fn account(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    let name = section.opt::<Text>(key)?.0;
    if name.is_empty() || name.starts_with('-') || name.contains([':', '/', '\n', '\0']) {
        section.reject(key, "expected the name of an account, such as `bot`", None);
        return None;
    }
    Some(name)
}

/// A command line that may be run.
#[derive(Debug)]
struct Argv(Vec<String>);

impl FromNode for Argv {
    const EXPECTED: &'static str = "a list of texts, the first an absolute path to a program, never a shell with -c";

    fn from_node(node: &Node) -> Result<Self, Option<String>> {
        let items = match &node.value {
            Value::List(items) => items,
            Value::Scalar { .. } => {
                return Err(Some("there is no shell to split it; give each word as an item of a list".to_owned()));
            }
            _ => return Err(None),
        };
        let words = items.iter().map(|item| match &item.value {
            Value::Scalar { text, .. } => Some(text.clone()),
            _ => None,
        });
        let argv = words.collect::<Option<Vec<_>>>().ok_or_else(|| Some("every item is one word".to_owned()))?;
        match check_argv(&argv) {
            Ok(()) => Ok(Self(argv)),
            Err((rule, hint)) => Err(Some(hint.unwrap_or(rule))),
        }
    }
}

/// Variables that are added to the environment.
#[derive(Debug)]
struct Env(BTreeMap<String, String>);

impl FromNode for Env {
    const EXPECTED: &'static str = "a mapping of variable names to texts";

    fn from_node(node: &Node) -> Result<Self, Option<String>> {
        let Value::Map(entries) = &node.value else { return Err(None) };
        let mut env = BTreeMap::new();
        for (name, _, value) in entries {
            let Value::Scalar { text, .. } = &value.value else {
                return Err(Some(format!("the value of `{name}` is not a text")));
            };
            if name.is_empty() || name.contains(['=', '\0']) || text.contains('\0') {
                return Err(Some(format!("`{name}` cannot be a variable")));
            }
            if name.starts_with("CHIRON_") {
                return Err(Some(format!("`{name}` is chiron's own; names beginning with CHIRON_ are set by chiron")));
            }
            env.insert(name.clone(), text.clone());
        }
        Ok(Self(env))
    }
}

/// Whether a command line may be run: the broken rule and a hint if not.
fn check_argv(argv: &[String]) -> Result<(), (String, Option<String>)> {
    let Some(program) = argv.first() else {
        return Err(("expected at least the program".to_owned(), None));
    };
    if argv.iter().any(|word| word.contains('\0')) {
        return Err(("expected words without NUL".to_owned(), None));
    }
    if !program.starts_with('/') {
        let hint = format!("find the program with `command -v {program}`");
        return Err((format!("expected an absolute path to a program, found `{program}`"), Some(hint)));
    }
    if let Some(shell) = shell_with_code(argv) {
        let hint = "put the code into a script of its own and name the script".to_owned();
        return Err((format!("expected no shell with code on its command line, found `{shell}`"), Some(hint)));
    }
    Ok(())
}

/// The shell that a command line hands code to (`sh -c ...`), also behind `env`, `sudo` and the like.
fn shell_with_code(argv: &[String]) -> Option<&str> {
    const SHELLS: [&str; 12] =
        ["sh", "bash", "dash", "ash", "zsh", "ksh", "ksh93", "mksh", "csh", "tcsh", "fish", "rbash"];
    argv.iter().enumerate().find_map(|(index, word)| {
        let name = word.rsplit('/').next().unwrap_or(word);
        if !SHELLS.contains(&name) {
            return None;
        }
        let mut options = argv[index + 1..].iter();
        while let Some(option) = options.next() {
            if let Some(long) = option.strip_prefix("--") {
                if long == "command" || long.starts_with("command=") || long == "init-command" {
                    return Some(word.as_str());
                }
                if long.is_empty() {
                    break;
                }
            } else if let Some(letters) = option.strip_prefix(['-', '+']) {
                if letters.contains('c') || letters.contains('C') && name == "fish" {
                    return Some(word.as_str());
                }
                if letters.ends_with(['o', 'O']) {
                    options.next();
                }
            } else {
                break;
            }
        }
        None
    })
}

#[cfg(test)]
mod tests;
