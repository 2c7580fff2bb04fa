//! Man pages and completions are made from the definitions in `cli::args` and committed; these tests fail when
//! they are stale, and rewrite them when `TOWLINE_BLESS=1` is set.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use clap::Command;
use clap_complete::{Shell, generate};
use clap_mangen::Man;
use towline::cli::args;
use towline::cli::help::{
    EXAMPLES, EXAMPLES_BENCH, EXAMPLES_ID, EXAMPLES_PEERS, EXAMPLES_RECEIVE, EXAMPLES_SEND, EXIT_STATUS,
    FILES, VARIABLES, VARIABLES_OF_FLAGS,
};

fn root(dir: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)
}

/// Compares `made` with what is committed in `dir`, in both directions.
fn check(dir: &str, made: &[(String, String)]) {
    let dir = root(dir);
    if std::env::var_os("TOWLINE_BLESS").is_some_and(|v| v == "1") {
        fs::create_dir_all(&dir).unwrap();
        for (name, text) in made {
            fs::write(dir.join(name), text).unwrap();
        }
    }
    for (name, text) in made {
        let committed = fs::read_to_string(dir.join(name)).unwrap_or_default();
        let line = text.lines().zip(committed.lines()).position(|(a, b)| a != b).map_or(0, |n| n + 1);
        assert!(
            *text == committed,
            "{name} is stale (line {line}): run TOWLINE_BLESS=1 cargo test --test derived"
        );
    }
    let names: BTreeSet<_> = made.iter().map(|(name, _)| name.clone()).collect();
    let committed = fs::read_dir(&dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    assert_eq!(names, committed.collect(), "{} holds what is not made", dir.display());
}

#[test]
fn man_pages() {
    let mut command = args::command();
    command.build();
    let mut made = vec![("towline.1".to_owned(), page("towline", &command, "towline"))];
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let name = format!("towline-{}", sub.get_name());
        made.push((format!("{name}.1"), page(&name, sub, &format!("towline {}", sub.get_name()))));
    }
    check("man", &made);
}

fn page(name: &str, command: &Command, bin: &str) -> String {
    let source = format!("towline {}", env!("CARGO_PKG_VERSION"));
    // A page has the flags that `-h` leaves out; clap_mangen would name them without a word about them.
    let command = command.clone().mut_args(|arg| arg.hide_short_help(false));
    let command = command.display_name(name.to_owned()).bin_name(bin.to_owned());
    let man = Man::new(command.clone()).title(name.to_uppercase()).source(source).manual("towline manual");
    let mut out = Vec::new();
    man.render_title(&mut out).unwrap();
    man.render_name_section(&mut out).unwrap();
    man.render_synopsis_section(&mut out).unwrap();
    man.render_description_section(&mut out).unwrap();
    man.render_options_section(&mut out).unwrap();
    let so_far = String::from_utf8_lossy(&out).replace("\\*(Aq", "'").replace('\\', "");
    for flag in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
        let help = flag.get_long_help().or(flag.get_help()).map(ToString::to_string).unwrap_or_default();
        let first = help.lines().next().unwrap_or_default();
        assert!(!first.is_empty() && so_far.contains(first), "{name} does not describe {}", flag.get_id());
    }
    if command.has_subcommands() {
        man.render_subcommands_section(&mut out).unwrap();
    }
    let mut out = String::from_utf8(out).unwrap();
    section(&mut out, "EXIT STATUS", EXIT_STATUS);
    section(&mut out, "ENVIRONMENT", &environment(&command));
    section(&mut out, "FILES", FILES);
    let examples = match command.get_name() {
        "send" => EXAMPLES_SEND.to_owned(),
        "receive" => EXAMPLES_RECEIVE.to_owned(),
        "bench" => EXAMPLES_BENCH.to_owned(),
        "id" => EXAMPLES_ID.to_owned(),
        "peers" => EXAMPLES_PEERS.to_owned(),
        _ => EXAMPLES.join("\n"),
    };
    section(&mut out, "EXAMPLES", &examples);
    section(&mut out, "SEE ALSO", &see_also(name));
    out
}

/// A section of lines that stay as they are.
fn section(out: &mut String, title: &str, text: &str) {
    writeln!(out, ".SH \"{title}\"\n.nf").unwrap();
    for line in text.lines() {
        let line = line.replace('\\', "\\\\").replace('-', "\\-");
        let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
        writeln!(out, "{guard}{line}").unwrap();
    }
    out.push_str(".fi\n");
}

fn environment(command: &Command) -> String {
    let commands: Vec<_> = command.get_subcommands().chain([command]).collect();
    let variables: BTreeSet<_> = commands
        .iter()
        .flat_map(|c| c.get_arguments())
        .filter_map(|a| Some((a.get_env()?.to_str()?.to_owned(), a.get_long()?.to_owned())))
        .collect();
    let width = variables.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for (name, flag) in variables {
        writeln!(out, "{name:width$}  --{flag}").unwrap();
    }
    for line in VARIABLES.lines() {
        let (name, what) = line.split_once("  ").unwrap();
        writeln!(out, "{name:width$}  {}", what.trim_start()).unwrap();
    }
    out + VARIABLES_OF_FLAGS
}

fn see_also(name: &str) -> String {
    let all = ["towline", "towline-send", "towline-receive", "towline-bench", "towline-id", "towline-peers"];
    let others: Vec<_> = all.iter().filter(|n| **n != name).map(|n| format!("{n}(1)")).collect();
    format!("{}, b3sum(1)", others.join(", "))
}

/// `completions` without `send -r`, which is hidden: clap_complete lists hidden flags for bash.
fn without_hidden(completions: &str) -> String {
    let shown = completions.replace("opts=\"-r ", "opts=\"");
    let mut options = shown.lines().filter_map(|line| line.trim_start().strip_prefix("opts="));
    assert!(!options.any(|line| line.contains("-r ")), "-r is listed");
    shown
}

/// The words of codes, on one line.
fn code_words() -> String {
    include_str!("../src/auth/words.txt").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `completions` with a function around that of clap_complete: what looks like the beginning of a code, perhaps after
/// `HOST/`, is completed word by word. No process is started for it.
fn with_codes(shell: Shell, completions: &str) -> String {
    let words = code_words();
    match shell {
        Shell::Bash => {
            let own = completions.rfind("\nif [[ \"${BASH_VERSINFO[0]}\" -eq 4").expect("the registration");
            let (function, registration) = completions.split_at(own + 1);
            let registration = registration.replace("-F _towline ", "-F _towline_with_codes ");
            assert!(registration.contains("_towline_with_codes"), "{registration}");
            format!("{function}{}{registration}", BASH_CODES.replace("@WORDS@", &words))
        }
        Shell::Zsh => {
            let begin = completions.find("_towline() {").expect("the function");
            let (head, function) = completions.split_at(begin);
            let function =
                function.replacen("_towline() {\n", "_towline() {\n    _towline_code && return 0\n", 1);
            format!("{head}{}{function}", ZSH_CODES.replace("@WORDS@", &words))
        }
        Shell::Fish => format!("{completions}{}", FISH_CODES.replace("@WORDS@", &words)),
        _ => completions.to_owned(),
    }
}

const BASH_CODES: &str = r#"# One-time codes: 7-cro<TAB> becomes 7-crossover.
_towline_with_codes() {
    local cur=${COMP_WORDS[COMP_CWORD]}
    if [[ $cur =~ ^(([^/]*/)?[0-9]{1,4}-([a-z]+-)*)([a-z]*)$ ]]; then
        local prefix=${BASH_REMATCH[1]} words
        words="@WORDS@"
        COMPREPLY=($(compgen -P "$prefix" -W "$words" -- "${BASH_REMATCH[4]}"))
        compopt -o nospace 2>/dev/null
        return 0
    fi
    _towline "$@"
}

"#;

const ZSH_CODES: &str = r#"# One-time codes: 7-cro<TAB> becomes 7-crossover.
(( $+functions[_towline_code] )) ||
_towline_code() {
    [[ $PREFIX =~ '^(([^/]*/)?[0-9]{1,4}-([a-z]+-)*)[a-z]*$' ]] || return 1
    local words=(@WORDS@)
    compadd -S '' -- ${match[1]}${^words}
}

"#;

const FISH_CODES: &str = r#"# One-time codes: 7-cro<TAB> becomes 7-crossover.
function __towline_codes
    set -l prefix (string match -r '^(?:[^/]*/)?[0-9]{1,4}-(?:[a-z]+-)*' -- (commandline -ct)); or return
    printf "$prefix%s\n" @WORDS@
end
complete -c towline -n "__fish_towline_using_subcommand send" -a "(__towline_codes)"
complete -c towline -n "__fish_towline_using_subcommand send" -l to -r -a "(__towline_codes)"
complete -c towline -n "__fish_towline_using_subcommand receive" -a "(__towline_codes)"
complete -c towline -n "__fish_towline_using_subcommand receive" -l from -r -a "(__towline_codes)"
"#;

/// What bash offers for `line` when tab is pressed at its end.
fn offered(line: &str) -> Vec<String> {
    let script = format!(
        "source {}/towline.bash; COMP_WORDS=({line}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
         COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}\n\
         $(complete -p towline | sed -n 's/.*-F \\([^ ]*\\) .*/\\1/p') towline \\\n\
         \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        root("completions").display()
    );
    let output =
        std::process::Command::new("bash").args(["--norc", "-c", &script]).output().expect("bash runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_the_words_of_codes() {
    let words = code_words();
    let one = words.split(' ').find(|word| word.starts_with("oct")).expect("a word");
    assert_eq!(offered("towline send file --to 7-oct"), [format!("7-{one}")]);
    assert_eq!(offered("towline receive 12-octopus-oct"), [format!("12-octopus-{one}")]);
    assert_eq!(offered("towline send file --to desk/7-oct"), [format!("desk/7-{one}")]);
    assert_eq!(offered("towline send file --to 7-").len(), words.split(' ').count());
    // What is no code is completed as before.
    assert!(offered("towline send --rem").contains(&"--remember".to_owned()));
    assert_eq!(offered("towline rec"), ["receive", "receipt"]);
}

#[test]
fn completions() {
    let made: Vec<_> = [
        (Shell::Bash, "towline.bash"),
        (Shell::Zsh, "_towline"),
        (Shell::Fish, "towline.fish"),
        (Shell::PowerShell, "_towline.ps1"),
    ]
    .into_iter()
    .map(|(shell, name)| {
        let mut out = Vec::new();
        generate(shell, &mut args::command(), "towline", &mut out);
        let shown = without_hidden(std::str::from_utf8(&out).unwrap());
        (name.to_owned(), with_codes(shell, &shown))
    })
    .collect();
    check("completions", &made);
}
