//! The rules of the house, read from the source: imports go down only, each library has its room, and a few
//! more. Every rule has a sample that breaks it, so that a rule that can no longer fail is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// From top to bottom. A module may use those with a greater number, and itself.
const LEVELS: [(&str, u8); 13] = [
    ("main", 0),
    // Doubles and suites may use everything; only tests may use them.
    (TESTING, 0),
    ("cli", 1),
    ("ui", 2),
    ("app", 3),
    ("connect", 4),
    ("node", 5),
    ("session", 6),
    // Side by side: neither may use the other.
    ("transport", 7),
    ("storage", 7),
    ("auth", 8),
    ("event", 9),
    ("protocol", 10),
];

/// The room that only tests compile.
const TESTING: &str = "testing";

/// Paths that only some modules may name. The lowest module is the strictest; what is not listed is free.
const ROOMS: [(&[&str], &[&str]); 14] = [
    (&["qrcode"], &["ui"]),
    (&["indicatif"], &["ui"]),
    (&["clap"], &["cli"]),
    (&["quinn"], &["transport"]),
    (&["quinn_proto"], &["transport"]),
    (&["quinn_udp"], &["transport"]),
    (&["anyhow"], &["app", "cli"]),
    (&["rustix", "fs"], &["storage", "auth"]),
    (&["socket2"], &["transport"]),
    (&["jiff"], &["app", "auth"]),
    (&["spake2"], &["auth"]),
    (&["rand_core"], &["auth"]),
    (&["mdns_sd"], &["connect"]),
    (&["zstd"], &["session"]),
];

/// All that the protocol may import from outside; proptest is a dev-dependency, so only its tests can.
const PROTOCOL_CRATES: [&str; 7] = ["std", "core", "alloc", "bytes", "blake3", "thiserror", "proptest"];

/// A clock, a socket, a file or another process: nothing for the protocol.
const PROTOCOL_FORBIDDEN: [&[&str]; 10] = [
    &["std", "fs"],
    &["std", "net"],
    &["std", "os"],
    &["std", "env"],
    &["std", "process"],
    &["std", "thread"],
    &["std", "time", "SystemTime"],
    &["Instant", "now"],
    &["SystemTime", "now"],
    &["std", "time", "Instant", "now"],
];

/// Macros that print; `ui` and `cli` do, and tests may.
const PRINTING: [&str; 5] = ["print", "println", "eprint", "eprintln", "dbg"];
/// Macros that stand for code that is not there.
const STUBS: [&str; 2] = ["todo", "unimplemented"];
/// Longest file of the product, in lines. Doubles and simulators may be longer. `clippy.toml` limits functions.
const FILE_LINES_MAX: usize = 600;

/// A word, a `::` or any other character of the source, with its line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    line: usize,
    text: String,
}

impl Token {
    fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
    }
}

/// Takes source apart; comments and the insides of text are left out.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let start = at;
        let is = |at: usize, word: &str| word.chars().enumerate().all(|(n, c)| chars.get(at + n) == Some(&c));
        if is(at, "//") {
            at = (at..chars.len()).find(|n| chars[*n] == '\n').unwrap_or(chars.len());
        } else if is(at, "/*") {
            let mut depth = 1;
            at += 2;
            while depth > 0 && at < chars.len() {
                (at, depth) = match () {
                    () if is(at, "/*") => (at + 2, depth + 1),
                    () if is(at, "*/") => (at + 2, depth - 1),
                    () => (at + 1, depth),
                };
            }
        } else if let Some(end) = end_of_literal(&chars, at) {
            at = end;
        } else if chars[at].is_alphanumeric() || chars[at] == '_' {
            let is_part = |c: &char| c.is_alphanumeric() || *c == '_';
            at = (at..chars.len()).find(|n| !is_part(&chars[*n])).unwrap_or(chars.len());
            tokens.push(Token { line, text: chars[start..at].iter().collect() });
        } else if is(at, "::") {
            at += 2;
            tokens.push(Token { line, text: "::".to_owned() });
        } else {
            at += 1;
            if !chars[start].is_whitespace() {
                tokens.push(Token { line, text: chars[start].to_string() });
            }
        }
        line += chars[start..at.min(chars.len())].iter().filter(|c| **c == '\n').count();
    }
    tokens
}

/// Where the text or character literal that begins at `at` ends, if one does.
fn end_of_literal(chars: &[char], at: usize) -> Option<usize> {
    let is_after_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    let mut open = at;
    if !is_after_word {
        // r"", b"", br"", c"" and cr"" begin with letters.
        while open < at + 2 && chars.get(open).is_some_and(|c| matches!(c, 'r' | 'b' | 'c')) {
            open += 1;
        }
    }
    let is_raw = chars[at..open].contains(&'r');
    let hashes = if is_raw { chars[open..].iter().take_while(|c| **c == '#').count() } else { 0 };
    match chars.get(open + hashes)? {
        '"' if is_raw => {
            let mut end = open + hashes + 1;
            loop {
                end += chars.get(end..)?.iter().position(|c| *c == '"')? + 1;
                if chars.get(end..end + hashes)?.iter().all(|c| *c == '#') {
                    return Some(end + hashes);
                }
            }
        }
        '"' => {
            let mut end = open + 1;
            while *chars.get(end)? != '"' {
                end += if chars[end] == '\\' { 2 } else { 1 };
            }
            Some(end + 1)
        }
        // A character, not a lifetime: an escape, or a quote two places on.
        '\'' if !is_raw && chars.get(open + 1) == Some(&'\\') => {
            Some(open + 4 + chars.get(open + 3..)?.iter().position(|c| *c == '\'')?)
        }
        '\'' if !is_raw && chars.get(open + 2) == Some(&'\'') => Some(open + 3),
        _ => None,
    }
}

/// A path that the source names, `use` trees taken apart: `a::{b, c::d}` is `a::b` and `a::c::d`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    line: usize,
    path: Vec<String>,
}

/// All paths of more than one word in a file, relative ones resolved; `modules` is where the file itself is.
fn named_paths(tokens: &[Token], modules: &[String]) -> Vec<Named> {
    let mut found = Vec::new();
    // Inline modules that are open, each with the depth of braces that it began at.
    let mut inline: Vec<(usize, String)> = Vec::new();
    let mut depth = 0;
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                inline.retain(|(began, _)| *began < depth + 1);
            }
            "mod" if tokens.get(at + 2).is_some_and(|t| t.text == "{") => {
                inline.push((depth + 1, tokens[at + 1].text.clone()));
            }
            // Where a name is visible, as in `pub(in path)`, is no use of that place.
            "in" if at > 1 && tokens[at - 1].text == "(" && tokens[at - 2].text == "pub" => {
                at = path_tree(tokens, at + 1, &[], &mut Vec::new());
            }
            _ if tokens[at].is_word() && (at == 0 || tokens[at - 1].text != "::") => {
                let here: Vec<_> =
                    modules.iter().chain(inline.iter().map(|(_, name)| name)).cloned().collect();
                let mut named = Vec::new();
                path_tree(tokens, at, &[], &mut named);
                found.extend(named.into_iter().filter(|n| n.path.len() > 1).map(|n| resolve(n, &here)));
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Reads a path, or a tree of paths, that begins at `at` behind `prefix`; returns the place behind it.
fn path_tree(tokens: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<Named>) -> usize {
    let mut path = prefix.to_vec();
    let line = tokens.get(at).map_or(0, |t| t.line);
    while let Some(token) = tokens.get(at) {
        if token.is_word() {
            path.push(token.text.clone());
            at += 1;
            if tokens.get(at).is_some_and(|t| t.text == "::") {
                at += 1;
                continue;
            }
        } else if token.text == "{" && path.len() > prefix.len() {
            at += 1;
            while tokens.get(at).is_some_and(|t| t.text != "}") {
                at = path_tree(tokens, at, &path, found);
                // Over the comma, or over the name behind `as`.
                while tokens.get(at).is_some_and(|t| t.text != "," && t.text != "}") {
                    at += 1;
                }
                at += usize::from(tokens.get(at).is_some_and(|t| t.text == ","));
            }
            return at + 1;
        }
        break;
    }
    found.push(Named { line, path });
    at
}

/// `crate::` at the front of what began with `self` or `super`.
fn resolve(named: Named, here: &[String]) -> Named {
    let ups = named.path.iter().take_while(|w| *w == "super").count();
    let is_self = ups == 0 && named.path[0] == "self";
    if ups == 0 && !is_self {
        return named;
    }
    let kept = &here[..here.len().saturating_sub(ups)];
    let rest = &named.path[ups + usize::from(is_self)..];
    let path = ["crate".to_owned()].iter().chain(kept).chain(rest).cloned().collect();
    Named { line: named.line, path }
}

/// Module path of a file below `src`: `storage/fs/mod.rs` is `storage::fs`.
fn modules_of(file: &Path) -> Vec<String> {
    let words = file.with_extension("");
    let mut words: Vec<_> = words.iter().map(|w| w.to_string_lossy().into_owned()).collect();
    if matches!(words.last().map(String::as_str), Some("mod" | "lib")) {
        words.pop();
    }
    words
}

/// Every `#[cfg(test)] mod NAME`: the name, and the place of what follows it, a `;` or a `{`.
fn test_modules(tokens: &[Token]) -> Vec<(&str, usize)> {
    let texts: Vec<&str> = tokens.iter().map(|t| t.text.as_str()).collect();
    let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
    let after =
        (0..texts.len()).filter(|at| texts[*at..].starts_with(&attribute)).map(|at| at + attribute.len());
    let modules = after.filter_map(|mut at| {
        at += usize::from(texts.get(at) == Some(&"pub"));
        if texts.get(at) == Some(&"(") {
            at += 1 + texts[at..].iter().position(|t| *t == ")")?;
        }
        (texts.get(at) == Some(&"mod")).then_some((*texts.get(at + 1)?, at + 2))
    });
    modules.collect()
}

/// `tokens` without the insides of `#[cfg(test)] mod NAME { … }`.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    for (_, open) in test_modules(tokens) {
        if open < at || tokens.get(open).is_none_or(|t| t.text != "{") {
            continue;
        }
        kept.extend_from_slice(&tokens[at..open]);
        let mut depth = 0;
        at = open;
        while let Some(token) = tokens.get(at) {
            depth += i32::from(token.text == "{") - i32::from(token.text == "}");
            at += 1;
            if depth == 0 {
                break;
            }
        }
    }
    kept.extend_from_slice(&tokens[at..]);
    kept
}

/// Files that are compiled only for tests: those behind `#[cfg(test)] mod NAME;`, as their module paths.
fn test_files(sources: &[(PathBuf, String)]) -> BTreeSet<Vec<String>> {
    let mut found = BTreeSet::new();
    for (file, source) in sources {
        let tokens = tokens(source);
        let declared = test_modules(&tokens)
            .into_iter()
            .filter(|(_, at)| tokens.get(*at).is_some_and(|t| t.text == ";"));
        found.extend(declared.map(|(name, _)| [modules_of(file), vec![name.to_owned()]].concat()));
    }
    found
}

/// The file, or a module that it is in, is compiled only for tests.
fn is_test_file(test_files: &BTreeSet<Vec<String>>, file: &Path) -> bool {
    let modules = modules_of(file);
    (1..=modules.len()).any(|n| test_files.contains(&modules[..n]))
}

fn level(module: &str) -> Option<u8> {
    LEVELS.iter().find(|(name, _)| *name == module).map(|(_, level)| *level)
}

fn begins_with(path: &[String], with: &[&str]) -> bool {
    path.len() >= with.len() && path.iter().zip(with).all(|(a, b)| a == b)
}

/// What breaks a rule in `source`, the text of `file` below `src`, which `is_test` when only tests compile it.
/// `crates` are the dependencies.
fn violations(file: &Path, source: &str, is_test: bool, crates: &BTreeSet<String>) -> Vec<String> {
    let tokens = tokens(source);
    let modules = modules_of(file);
    let room = modules.first().map_or("lib", String::as_str);
    let mut found = Vec::new();
    let mut say = |line: usize, what: String| found.push(format!("src/{}:{line}: {what}", file.display()));

    let product = if is_test { Vec::new() } else { named_paths(&without_tests(&tokens), &modules) };
    for named in named_paths(&tokens, &modules) {
        let shown = named.path.join("::");
        let for_a_test = named.path.get(1).is_some_and(|room| room == TESTING) && !product.contains(&named);
        let arrow = arrow(room, &named).filter(|_| !for_a_test);
        let broken = [arrow, house(room, &named), protocol_imports(room, &named, is_test, crates)];
        for what in broken.into_iter().flatten() {
            say(named.line, format!("{shown}: {what}"));
        }
    }
    for (line, name) in macros(&tokens) {
        if STUBS.contains(&name) {
            say(line, format!("{name}! stands for code that is not there"));
        }
    }
    for (line, name) in macros(&without_tests(&tokens)) {
        if PRINTING.contains(&name) && !is_test && !matches!(room, "ui" | "cli") {
            say(line, format!("{name}! prints; only ui and cli do, everything else reports events"));
        }
    }
    let lines = source.lines().count();
    if lines > FILE_LINES_MAX && room != TESTING {
        say(lines, format!("more than {FILE_LINES_MAX} lines"));
    }
    found
}

/// Names that are followed by `!`, with their lines.
fn macros(tokens: &[Token]) -> impl Iterator<Item = (usize, &str)> {
    let called = tokens.windows(2).filter(|w| w[0].is_word() && w[1].text == "!");
    called.map(|w| (w[0].line, w[0].text.as_str()))
}

/// An import that runs up, or aside.
fn arrow(room: &str, named: &Named) -> Option<String> {
    let [root, target, ..] = named.path.as_slice() else { return None };
    if root != "crate" && root != "towline" || room == target {
        return None;
    }
    let (from, to) = (level(room)?, level(target)?);
    (from >= to).then(|| format!("{room} may not use {target}"))
}

/// A library outside its room.
fn house(room: &str, named: &Named) -> Option<String> {
    let (path, rooms) = ROOMS.iter().find(|(path, _)| begins_with(&named.path, path))?;
    (!rooms.contains(&room) && room != TESTING)
        .then(|| format!("{} is used only in {}", path.join("::"), rooms.join(" and ")))
}

/// A library, or a part of the standard one, that the protocol must do without. Its tests may read variables: seeds.
fn protocol_imports(room: &str, named: &Named, is_test: bool, crates: &BTreeSet<String>) -> Option<String> {
    if room != "protocol" {
        return None;
    }
    let root = named.path[0].as_str();
    if crates.contains(root) && !PROTOCOL_CRATES.contains(&root) {
        return Some(format!("protocol may not use {root}"));
    }
    if is_test && begins_with(&named.path, &["std", "env"]) {
        return None;
    }
    let is_forbidden = PROTOCOL_FORBIDDEN.iter().any(|path| begins_with(&named.path, path));
    is_forbidden.then(|| "protocol has no clock, socket, file or process".to_owned())
}

/// Which file uses what of which other file. A name that a module passes on counts as a use of the file that defines it.
struct Uses {
    /// Module path of each file of the product.
    modules: BTreeSet<Vec<String>>,
    /// Of a module: the names that it passes on, and what they stand for.
    passed_on: BTreeMap<Vec<String>, BTreeMap<String, Vec<String>>>,
    /// From file to file, with the line of the first use.
    edges: BTreeMap<Vec<String>, BTreeMap<Vec<String>, usize>>,
}

impl Uses {
    fn new(sources: &[(PathBuf, String)]) -> Self {
        let test_files = test_files(sources);
        let product = sources.iter().filter(|(file, _)| !is_test_file(&test_files, file));
        let files: Vec<_> =
            product.map(|(file, source)| (modules_of(file), without_tests(&tokens(source)))).collect();
        let modules = files.iter().map(|(module, _)| module.clone()).collect();
        let passed_on =
            files.iter().map(|(module, tokens)| (module.clone(), passed_on(tokens, module))).collect();
        let mut uses = Self { modules, passed_on, edges: BTreeMap::new() };
        for (module, tokens) in &files {
            for named in named_paths(tokens, module) {
                if let Some(used) = uses.file_of(module, &named.path).filter(|used| used != module) {
                    uses.edges.entry(module.clone()).or_default().entry(used).or_insert(named.line);
                }
            }
        }
        uses
    }

    /// The file that defines what `path` names in the file `here`, unless that is a library.
    fn file_of(&self, here: &[String], path: &[String]) -> Option<Vec<String>> {
        let mut path = match path[0].as_str() {
            "crate" | "towline" => path[1..].to_vec(),
            // The name of a module that is declared here.
            first => {
                let child = [here, &[first.to_owned()]].concat();
                self.modules.contains(&child).then(|| [here, path].concat())?
            }
        };
        // Each round follows one name that is passed on; nothing is passed on by more rooms than there are.
        for _ in 0..LEVELS.len() {
            let len = (0..=path.len()).rev().find(|n| self.modules.contains(&path[..*n]))?;
            let Some(meant) = path.get(len).and_then(|name| self.passed_on[&path[..len]].get(name)) else {
                return Some(path[..len].to_vec());
            };
            path = meant.iter().chain(&path[len + 1..]).cloned().collect();
        }
        None
    }

    /// All uses that are part of a circle, as `from -> to`.
    fn circles(&self) -> Vec<String> {
        let edges =
            self.edges.iter().flat_map(|(from, to)| to.iter().map(move |(to, line)| (from, to, line)));
        let in_circle = edges.filter(|(from, to, _)| self.reaches(to, from));
        in_circle
            .map(|(from, to, line)| format!("{} -> {} (line {line})", from.join("::"), to.join("::")))
            .collect()
    }

    fn reaches(&self, from: &[String], to: &[String]) -> bool {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(file) = next.pop() {
            if file == to {
                return true;
            }
            if seen.insert(file) {
                next.extend(self.edges.get(file).into_iter().flat_map(|to| to.keys()).map(Vec::as_slice));
            }
        }
        false
    }
}

/// What a module passes on with `pub use`: the name, and the path below `src` that it stands for.
fn passed_on(tokens: &[Token], module: &[String]) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::new();
    for at in (0..tokens.len()).filter(|at| tokens[*at].text == "pub") {
        let is = |at: usize, text: &str| tokens.get(at).is_some_and(|token| token.text == text);
        let at = if is(at + 1, "(") { at + 4 } else { at + 1 };
        if !is(at, "use") {
            continue;
        }
        let mut named = Vec::new();
        path_tree(tokens, at + 1, &[], &mut named);
        for path in named.into_iter().map(|named| resolve(named, module).path) {
            let meant = if path[0] == "crate" { path[1..].to_vec() } else { [module, &path].concat() };
            found.extend(meant.last().cloned().map(|name| (name, meant)));
        }
    }
    found
}

/// Names of all dependencies, as they are written in source.
fn dependencies() -> BTreeSet<String> {
    let manifest =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).expect("a manifest");
    let manifest: toml::Table = toml::from_str(&manifest).expect("a manifest is TOML");
    let tables = ["dependencies", "dev-dependencies"].map(|t| manifest[t].as_table().expect("a table"));
    tables.iter().flat_map(|t| t.keys()).map(|name| name.replace('-', "_")).collect()
}

/// All files below `src` with their texts, in order; their paths are relative to it.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    find_files(&root, &mut files);
    files.sort();
    let read = |file: PathBuf| {
        let source = fs::read_to_string(&file).expect("source is text");
        (file.strip_prefix(&root).expect("it was found there").to_owned(), source)
    };
    files.into_iter().map(read).collect()
}

fn find_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory of the source") {
        let entry = entry.expect("an entry");
        if entry.file_type().expect("a type").is_dir() {
            find_files(&entry.path(), found);
        } else if entry.path().extension().is_some_and(|e| e == "rs") {
            found.push(entry.path());
        }
    }
}

#[test]
fn the_source_keeps_the_rules() {
    let sources = sources();
    assert!(sources.len() > 10, "only {} files were found", sources.len());
    let crates = dependencies();
    let test_files = test_files(&sources);
    let check = |(file, source): &(PathBuf, String)| {
        violations(file, source, is_test_file(&test_files, file), &crates)
    };
    let found: Vec<_> = sources.iter().flat_map(check).collect();
    assert!(found.is_empty(), "{} violations:\n{}", found.len(), found.join("\n"));
}

#[test]
fn no_file_uses_one_that_uses_it() {
    let circles = Uses::new(&sources()).circles();
    assert!(circles.is_empty(), "{} uses are part of a circle:\n{}", circles.len(), circles.join("\n"));
}

#[test]
fn self_test_circles() {
    let circles = |files: &[(&str, &str)]| {
        let sources: Vec<_> = files.iter().map(|(file, text)| (file.into(), (*text).to_owned())).collect();
        Uses::new(&sources).circles()
    };
    let (a, b) = (("app/a.rs", "use super::b::B;"), ("app/b.rs", "use super::a::A;"));
    assert_eq!(circles(&[a, b]), ["app::a -> app::b (line 1)", "app::b -> app::a (line 1)"]);
    assert!(circles(&[a, ("app/b.rs", "#[cfg(test)]\nmod tests { use super::super::a::A; }")]).is_empty());
    // Over a third file, and over a name that is passed on.
    let c = ("app/c.rs", "use crate::app::A;");
    assert_eq!(circles(&[a, ("app/b.rs", "fn f(c: super::c::C) {}"), c]).len(), 0);
    let passes = ("app/mod.rs", "mod a; mod b;\npub use a::A;\npub use self::b::B;");
    assert_eq!(circles(&[a, ("app/b.rs", "fn f(c: super::c::C) {}"), c, passes]).len(), 3);
    // To be visible in a module is no use of it.
    let visible = ("app/a.rs", "pub(in crate::app) fn f() {}");
    assert!(circles(&[visible, ("app/mod.rs", "mod a;\npub(super) use a::f;")]).is_empty());
    // A module that only passes names on is part of no circle; one that uses what it passes on is.
    assert!(circles(&[("app/a.rs", "use super::B;"), ("app/b.rs", ""), passes]).is_empty());
    let user = ("app/mod.rs", "mod a;\nfn f() { a::g() }\npub struct X;");
    assert_eq!(circles(&[("app/a.rs", "use super::X;"), user]).len(), 2);
}

#[test]
fn every_module_has_a_level() {
    for (file, _) in sources() {
        if let Some(module) = modules_of(&file).first() {
            assert!(level(module).is_some(), "{module} has no place in the order of modules");
        }
    }
}

/// The violations of a sample.
fn sample(file: &str, source: &str) -> Vec<String> {
    violations(Path::new(file), source, false, &dependencies())
}

/// `bad` breaks one rule once, at `line`, and the message has `word` in it; `good` breaks none.
#[track_caller]
fn check_rule(file: &str, bad: &str, line: usize, word: &str, good: &str) {
    let found = sample(file, bad);
    assert_eq!(found.len(), 1, "{bad}: {found:?}");
    assert!(found[0].contains(word) && found[0].contains(&format!("{file}:{line}:")), "{found:?}");
    assert_eq!(sample(file, good), Vec::<String>::new(), "{good}");
}

#[test]
fn self_test_arrows_that_run_up() {
    let word = "may not use";
    check_rule("protocol/a.rs", "\nuse crate::session::X;", 2, word, "use crate::protocol::limits::X;");
    check_rule(
        "event.rs",
        "use crate::{protocol::a, auth::b};",
        1,
        word,
        "use crate::{protocol::a, protocol::b};",
    );
    check_rule("storage/mod.rs", "use crate::transport::X;", 1, word, "use crate::event::Event;");
    check_rule("transport/mod.rs", "fn f() { crate::storage::x() }", 1, word, "fn f() { crate::auth::x() }");
    check_rule("app/send.rs", "use super::super::ui::Bar;", 1, word, "use super::super::session::Bar;");
    check_rule("auth/mod.rs", "use super::transport::X;", 1, word, "use super::event::X;");
    check_rule(
        "session/a.rs",
        "mod tests { use super::super::super::app::X; }",
        1,
        word,
        "mod tests { use super::super::app::X; }",
    );
    check_rule("ui/bars.rs", "pub use crate::cli::{self};", 1, word, "pub use crate::app::{self};");
    check_rule("app/mod.rs", "fn f() { towline::cli::x() }", 1, word, "fn f() { towline::session::x() }");
    check_rule(
        "session/a.rs",
        "use crate::{event::{Event, Reporter as R}, app};",
        1,
        word,
        "use crate::{event::{Event, Reporter as R}, transport};",
    );
    assert_eq!(sample("main.rs", "fn main() { towline::cli::main() }"), Vec::<String>::new());
}

#[test]
fn self_test_rooms_of_libraries() {
    check_rule("app/mod.rs", "use indicatif::ProgressBar;", 1, "only in ui", "use anyhow::Context;");
    check_rule("ui/mod.rs", "use clap::Parser;", 1, "only in cli", "use indicatif::ProgressBar;");
    check_rule(
        "session/a.rs",
        "fn f(c: quinn::Connection) {}",
        1,
        "only in transport",
        "fn f(c: tokio::task::Id) {}",
    );
    check_rule("session/a.rs", "use quinn_proto::X;", 1, "only in transport", "use bytes::Bytes;");
    check_rule("session/a.rs", "use anyhow::Result;", 1, "only in app and cli", "use std::io::Result;");
    check_rule(
        "app/mod.rs",
        "use rustix::{process::Pid, fs::Mode};",
        1,
        "only in storage",
        "use rustix::process::Pid;",
    );
    check_rule("ui/mod.rs", "use quinn_udp::X;", 1, "only in transport", "use std::fmt::X;");
    check_rule("app/mod.rs", "use socket2::Socket;", 1, "only in transport", "use std::net::UdpSocket;");
    assert_eq!(sample("storage/fs/mod.rs", "use rustix::fs::Mode;"), Vec::<String>::new());
    assert_eq!(sample("auth/identity.rs", "use rustix::fs::Mode;"), Vec::<String>::new());
}

#[test]
fn self_test_what_the_protocol_does_without() {
    check_rule(
        "protocol/a.rs",
        "use tokio::time::Instant;",
        1,
        "may not use tokio",
        "use bytes::{Buf, BufMut};",
    );
    check_rule(
        "protocol/a.rs",
        "#[derive(serde::Serialize)] struct A;",
        1,
        "may not use serde",
        "#[derive(thiserror::Error)] struct A;",
    );
    check_rule(
        "protocol/a.rs",
        "fn f() { std::time::Instant::now(); }",
        1,
        "no clock",
        "fn f(now: std::time::Instant) {}",
    );
    check_rule(
        "protocol/a.rs",
        "fn f() { Instant::now(); }",
        1,
        "no clock",
        "use std::time::{Duration, Instant};",
    );
    check_rule("protocol/a.rs", "use std::{fmt, fs::File};", 1, "no clock", "use std::{fmt, sync::Arc};");
    check_rule("protocol/a.rs", "use std::net::UdpSocket;", 1, "no clock", "use proptest::prelude::*;");
}

#[test]
fn self_test_printing_and_stubs() {
    check_rule("session/a.rs", "fn f() {\n println!(\"x\") }", 2, "prints", "fn f() { format!(\"x\"); }");
    check_rule(
        "protocol/a.rs",
        "fn f() { std::dbg!(1); }",
        1,
        "prints",
        "// println!(\"x\")\n/* /* dbg! */ dbg!() */",
    );
    check_rule(
        "app/a.rs",
        "fn f() { todo!() }",
        1,
        "not there",
        "fn f() { tell(\"todo!()\", r#\"\"dbg!()\"#, '\"', b'\\'') }",
    );
    check_rule("ui/a.rs", "fn f() { unimplemented!() }", 1, "not there", "fn f<'a>() { eprintln!(\"x\") }");
    assert_eq!(sample("cli/a.rs", "fn f() { println!() }"), Vec::<String>::new());
}

#[test]
fn self_test_tests_may_print() {
    let inline = "fn f() {}\n#[cfg(test)]\nmod tests { fn g() { println!() } }\n";
    assert_eq!(sample("session/a.rs", inline), Vec::<String>::new());
    let behind = format!("{inline}fn h() {{ println!() }}");
    check_rule("session/a.rs", &behind, 4, "prints", inline);
    check_rule("session/a.rs", "#[cfg(test)]\nmod tests { fn g() { todo!() } }", 2, "not there", inline);

    let declares = "mod honest;\n#[cfg(test)]\npub(crate) mod double;\n#[cfg(test)]\nmod tests {}";
    let files = test_files(&[("storage/mod.rs".into(), declares.to_owned())]);
    assert_eq!(files, BTreeSet::from([vec!["storage".to_owned(), "double".to_owned()]]));
    let printing = "fn f() { println!() }";
    assert_eq!(
        violations(Path::new("storage/double.rs"), printing, true, &dependencies()),
        Vec::<String>::new()
    );
}

#[test]
fn self_test_only_tests_use_doubles() {
    let for_tests = "#[cfg(test)]\nmod tests { use crate::testing::disk::MemoryTarget; }";
    check_rule("session/a.rs", "use crate::testing::disk::X;", 1, "may not use testing", for_tests);
    let files = BTreeSet::from([vec!["testing".to_owned()]]);
    assert!(is_test_file(&files, Path::new("testing/disk/target.rs")));
    assert!(!is_test_file(&files, Path::new("session/disk.rs")));
}

#[test]
fn self_test_long_files() {
    let long = "fn f() {}\n".repeat(FILE_LINES_MAX + 1);
    let longest = "fn f() {}\n".repeat(FILE_LINES_MAX);
    check_rule("app/a.rs", &long, FILE_LINES_MAX + 1, "more than", &longest);
    assert_eq!(sample("testing/a.rs", &long), Vec::<String>::new());
}
