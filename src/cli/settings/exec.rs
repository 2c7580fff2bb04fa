//! The program that runs after a transfer.

use std::env;
use std::ffi::{OsStr, OsString};
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{self, Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::common::{check_duration, is_variable};
use crate::app::settings::ExecSettings;
use crate::cli::args::ExecArgs;
use crate::cli::config::Config;
use crate::protocol::path::printable;

/// Default for `--exec-timeout`.
const LIMIT_DEFAULT: Duration = Duration::from_secs(60 * 60);
/// What `--exec-timeout` may be. The sender does not wait longer.
const LIMITS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60 - 60);

/// The program that is to run, if there is one.
pub(super) fn resolve_exec(given: ExecArgs, config: &Config) -> Result<Option<ExecSettings>> {
    let is_limited = given.exec_timeout.is_some() && !is_variable("--exec-timeout");
    let limit = given.exec_timeout.or(config.exec_timeout).unwrap_or(LIMIT_DEFAULT);
    check_duration("--exec-timeout", limit, LIMITS)?;
    let words: Vec<OsString> = match given.exec.is_empty() {
        true => config.exec.iter().map(OsString::from).collect(),
        false => given.exec,
    };
    let mut words = words.into_iter();
    // An empty variable turns it off.
    let Some(program) = words.next().filter(|program| !program.is_empty()) else {
        ensure!(!is_limited, "--exec-timeout works only with --exec");
        return Ok(None);
    };
    let found = find(&program, env::var_os("PATH").as_deref());
    let shown = printable(program.as_encoded_bytes());
    let Some(program) = found else {
        anyhow::bail!(
            "--exec: there is no program `{shown}`, or it is not executable; give its path, and each argument as a word of its own"
        );
    };
    Ok(Some(ExecSettings { program, args: words.collect(), limit }))
}

/// The same for a receiver that may write to standard output, where there are no files.
pub(super) fn exec_of(given: ExecArgs, config: &Config, is_stdout: bool) -> Result<Option<ExecSettings>> {
    if !is_stdout {
        return resolve_exec(given, config);
    }
    ensure!(
        given.exec.is_empty() || is_variable("--exec"),
        "--exec gets the names of files, and --into - makes none: leave one of them out"
    );
    Ok(None)
}

/// The path of `program`, which may be run from another directory.
fn find(program: &OsStr, search: Option<&OsStr>) -> Option<PathBuf> {
    if program.as_encoded_bytes().contains(&b'/') {
        return path::absolute(program).ok().filter(|path| is_executable(path));
    }
    let dirs = search.map(env::split_paths).into_iter().flatten();
    dirs.filter_map(|dir| path::absolute(dir.join(program)).ok()).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::config::ConfigFile;

    fn resolve(words: &[&str]) -> Result<Option<ExecSettings>> {
        let exec = words.iter().map(OsString::from).collect();
        resolve_exec(ExecArgs { exec, exec_timeout: None }, &Config::default())
    }

    #[test]
    fn the_program_is_found_before_anything_begins_and_its_arguments_stay_as_they_are() {
        let found = resolve(&["sh", "-c", "a b", "$(c)"]).unwrap().unwrap();
        assert!(found.program.is_absolute() && found.program.ends_with("sh"), "{found:?}");
        assert_eq!(
            (found.args, found.limit),
            (vec!["-c".into(), "a b".into(), "$(c)".into()], LIMIT_DEFAULT)
        );
        assert_eq!(resolve(&[]).unwrap(), None);
        assert_eq!(resolve(&[""]).unwrap(), None);
        for absent in ["no such program", "/etc/passwd", "/etc", "./nothing"] {
            let error = resolve(&[absent]).unwrap_err().to_string();
            assert!(error.contains(&format!("there is no program `{absent}`")), "{error}");
        }
    }

    #[test]
    fn the_config_file_has_the_words_as_a_list() {
        let (_, config) =
            ConfigFile::parse("exec = [\"sh\", \"-c\", \"true\"]\nexec-timeout = \"5s\"").unwrap();
        let found = resolve_exec(ExecArgs::default(), &config).unwrap().unwrap();
        assert_eq!((found.args.len(), found.limit), (2, Duration::from_secs(5)));
        let long = ExecArgs { exec: vec!["sh".into()], exec_timeout: Some(Duration::from_secs(90_000)) };
        assert!(resolve_exec(long, &config).is_err());
        let alone = ExecArgs { exec: Vec::new(), exec_timeout: Some(Duration::from_secs(9)) };
        assert!(resolve_exec(alone, &Config::default()).is_err());
    }
}
