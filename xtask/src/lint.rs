//! `lint` and `hooks`: Python as it is about to be committed.

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        OnceLock,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use exec::Cmd;
use lint::{Format, Report, Request, Scope};
use xshell::Shell;

use crate::tools::{say, uv};

/// For `--help`.
const EXIT_CODES: &str = "\
Exit codes:
  0  no findings
  1  findings
  2  wrong usage
  3  nothing can be said: a linter is missing or crashed, a FILE or REV is unknown";

/// Judge the Python that is about to be committed: black, isort, flake8 and mypy
///
/// What is judged is git's index, with the configuration that is in it; the working tree is not
/// looked at, and only --fix writes to it.
#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
pub(crate) struct Lint {
    /// Only these files and folders; by default, what is staged
    #[arg(value_name = "FILE", conflicts_with_all = ["all", "since"])]
    files: Vec<PathBuf>,
    /// Everything that is in the index
    #[arg(long, conflicts_with = "since")]
    all: bool,
    /// What differs from this revision
    #[arg(long, value_name = "REV", allow_hyphen_values = false)]
    since: Option<String>,
    /// Mend what can be mended, and stage it again where all of a file was staged
    #[arg(long)]
    fix: bool,
    /// Only this linter; may be given more than once
    #[arg(long, value_name = "LINTER", value_parser = clap::builder::PossibleValuesParser::new(lint::names()))]
    only: Vec<String>,
    /// How findings are told
    #[arg(long, value_enum, default_value_t = As::Text)]
    format: As,
    /// Neither ask nor leave behind a process that makes lints faster; it ends after ten idle minutes
    #[arg(long)]
    no_worker: bool,
    /// Use the linters of this virtual environment, not those of uv.lock
    #[arg(long, value_name = "DIR")]
    venv: Option<PathBuf>,
    /// Another checkout than this one
    #[arg(long, value_name = "DIR", hide = true)]
    repo: Option<PathBuf>,
    #[arg(long, hide = true, env = "GITHUB_ACTIONS", action = clap::ArgAction::Set, default_value = "false")]
    github_actions: String,
    #[arg(long, hide = true, env = "NO_COLOR", default_value = "")]
    no_color: String,
    /// What git tells its hooks: another one than usual for `commit --all` and `commit FILE`.
    #[arg(long, hide = true, env = "GIT_INDEX_FILE", default_value = "")]
    git_index_file: OsString,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum As {
    Text,
    Json,
    Github,
    Sarif,
}

/// Install or remove the hook that lints before each commit
#[derive(clap::Args)]
pub(crate) struct Hooks {
    #[command(subcommand)]
    verb: HooksVerb,
}

#[derive(clap::Subcommand)]
enum HooksVerb {
    /// Lint what is staged before each commit; a hook that is there already runs first
    Install,
    /// Commit without, and put back the hook that was there
    Uninstall,
}

impl Lint {
    /// Answers even for an error: an exit code of its own, since 1 says that there are findings.
    pub(crate) fn run(self, sh: &Shell, root: &Path) -> ExitCode {
        match self.judge(sh, root) {
            Ok(report) => ExitCode::from(report.exit_code()),
            Err(error) => {
                crate::report(&error);
                ExitCode::from(3)
            }
        }
    }

    fn judge(self, sh: &Shell, root: &Path) -> anyhow::Result<Report> {
        let root = self.repo.as_deref().unwrap_or(root);
        let root = root.canonicalize()?;
        let fix = self.fix_command();
        let scope = if self.all {
            Scope::All
        } else if let Some(rev) = self.since {
            Scope::Since(rev)
        } else if self.files.is_empty() {
            Scope::Staged
        } else {
            let here = std::env::current_dir()?;
            Scope::Paths(self.files.iter().map(|it| below(&root, &here, it)).collect())
        };
        let progress = Progress::default();
        let report = lint::run(&Request {
            root: &root,
            state: &root.join("target/lint"),
            scope,
            only: self.only,
            fix: self.fix,
            // On a machine of the moment there is no next lint.
            worker: !self.no_worker && self.github_actions != "true",
            venv: self.venv.as_deref(),
            uv: &|| {
                say("installing the linters that uv.lock names");
                uv(sh).map(OsString::from).map_err(Into::into)
            },
            starts: &|files| progress.begin(files),
        })?;
        drop(progress);
        let color = io::stdout().is_terminal() && self.no_color.is_empty();
        let format = match self.format {
            As::Text => Format::Text { color },
            As::Json => Format::Json,
            As::Github => Format::Github,
            As::Sarif => Format::Sarif,
        };
        let mut out = report.show(format);
        if self.format == As::Text {
            if self.github_actions == "true" {
                out.push_str(&report.show(Format::Github));
            }
            if let Some(next) = report.next(&fix) {
                out.push_str(&format!("{next}\n"));
            }
        }
        // A closed pipe (`| head`) is no error of ours.
        let _ = io::stdout().write_all(out.as_bytes());
        Ok(report)
    }

    /// What mends what is judged now.
    fn fix_command(&self) -> String {
        let mut fix = Cmd::new("cargo").args(["xtask", "lint", "--fix"]);
        for linter in &self.only {
            fix = fix.arg(format!("--only={linter}"));
        }
        fix = fix.args(self.all.then_some("--all"));
        fix = fix.args(self.since.iter().map(|it| format!("--since={it}"))).args(&self.files);
        // What `git commit` was told besides is staged for it alone, in an index that goes with it.
        let is_of_a_commit = self.git_index_file.as_bytes().ends_with(b".lock");
        format!("{}{fix}", if is_of_a_commit { "git add what you commit, then " } else { "" })
    }
}

/// Says on a terminal that a lint goes on, once it has worked for a second.
///
/// Whoever waits to say it notices when this is dropped.
#[derive(Default)]
struct Progress(OnceLock<mpsc::Sender<()>>);

impl Progress {
    fn begin(&self, files: usize) {
        if !io::stderr().is_terminal() {
            return;
        }
        self.0.get_or_init(|| {
            let (lives, ended) = mpsc::channel();
            thread::spawn(move || {
                if ended.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
                    let s = if files == 1 { "" } else { "s" };
                    say(&format!("linting {files} file{s}; what is known is not judged again"));
                }
            });
            lives
        });
    }
}

impl Hooks {
    pub(crate) fn run(self, root: &Path) -> anyhow::Result<ExitCode> {
        match self.verb {
            HooksVerb::Install => {
                let it = lint::hooks::install(root)?;
                say(&format!("`git commit` lints what is staged, by {}", it.path.display()));
                if let Some(before) = it.before {
                    say(&format!("the hook that was there runs first: {}", before.display()));
                }
            }
            HooksVerb::Uninstall => match lint::hooks::uninstall(root)? {
                Some(it) if it.before.is_some() => {
                    say(&format!("put back the hook that was there: {}", it.path.display()));
                }
                Some(it) => say(&format!("removed {}", it.path.display())),
                None => say("there was no hook"),
            },
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A path as it was typed, from the repository's root.
fn below(root: &Path, here: &Path, typed: &Path) -> PathBuf {
    let path = lint::normal(&here.join(typed));
    path.strip_prefix(root).map(Path::to_owned).unwrap_or(path)
}
