//! The commands of the pages in `docs/guide`, run one after the other.
//!
//! A fenced block ```` ```sh NAME ```` is run by bash on the machine NAME: a directory that stands for its root, with an
//! identity of its own. ```` ```sh NAME background ```` waits until the side waits, and ends it with the page.
//! ```` ```toml NAME PATH ```` is written to PATH. Blocks of other kinds are only read by people. Paths in /srv are in the
//! directory of the machine; NAME.example is the address at which it waits, and FINGERPRINT-OF-NAME its fingerprint.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::Scratch;
use rustix::process::{Pid, Signal, kill_process};

/// A block of a page that is run or written.
struct Block {
    line: usize,
    info: Vec<String>,
    text: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let (mut all, mut open): (Vec<Block>, Option<Block>) = (Vec::new(), None);
    for (line, text) in (1..).zip(page.lines()) {
        match (text.strip_prefix("```"), open.take()) {
            (Some(_), Some(block)) => all.push(block),
            (Some(info), None) => {
                let info = info.split_whitespace().map(str::to_owned).collect();
                open = Some(Block { line, info, text: String::new() });
            }
            (None, Some(mut block)) => {
                block.text += text;
                block.text += "\n";
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    all.retain(|block| block.info.len() > 1);
    all
}

/// The machines of a page.
struct Stage {
    scratch: Scratch,
    machines: BTreeMap<String, StageMachine>,
    running: Vec<Child>,
}

struct StageMachine {
    root: PathBuf,
    port: u16,
}

impl StageMachine {
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let bin = Path::new(env!("CARGO_BIN_EXE_towline")).parent().expect("a directory");
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env_clear()
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("HOME", self.root.join("home"))
            .env("TOWLINE_LISTEN", format!("127.0.0.1:{}", self.port))
            .current_dir(self.root.join("home"));
        command
    }
}

impl Stage {
    /// With all machines that `blocks` name.
    fn new(blocks: &[Block]) -> Self {
        let scratch = Scratch::new();
        let mut machines = BTreeMap::new();
        // All at once, so that the ports differ.
        let mut sockets = Vec::new();
        for block in blocks {
            let name = &block.info[1];
            if !machines.contains_key(name) {
                let root = scratch.dir(name);
                fs::create_dir_all(root.join("home")).expect("a directory");
                fs::create_dir_all(root.join("srv")).expect("a directory");
                let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
                let port = socket.local_addr().expect("bound").port();
                sockets.push(socket);
                machines.insert(name.clone(), StageMachine { root, port });
            }
        }
        Self { scratch, machines, running: Vec::new() }
    }

    /// `text` as it is on the machine `name`.
    fn adapted(&self, name: &str, text: &str) -> String {
        let mut text = text.replace("/srv", &format!("{}/srv", self.machines[name].root.display()));
        for (other, machine) in &self.machines {
            text = text.replace(&format!("{other}.example"), &format!("127.0.0.1:{}", machine.port));
            let placeholder = format!("FINGERPRINT-OF-{}", other.to_uppercase());
            if text.contains(&placeholder) {
                let output = machine.command("towline").arg("id").output().expect("it starts");
                let fingerprint = String::from_utf8(output.stdout).expect("text");
                text = text.replace(&placeholder, fingerprint.trim());
            }
        }
        text
    }

    fn run(&mut self, page: &str, block: &Block) {
        let (name, at) = (&block.info[1], format!("{page}:{}", block.line));
        let (machine, text) = (&self.machines[name], self.adapted(name, &block.text));
        match (block.info[0].as_str(), block.info.get(2).map(String::as_str)) {
            ("toml", Some(path)) => {
                let path = machine.root.join("home").join(path.trim_start_matches("~/"));
                fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
                fs::write(path, text).expect("a file");
            }
            ("sh", Some("background")) => {
                let mut command = machine.command("bash");
                command.args(["-euo", "pipefail", "-c", &format!("exec {text}")]);
                let child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn();
                let mut child = child.expect("bash starts");
                let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
                let is_waiting = lines.by_ref().map_while(Result::ok).any(|line| line.contains("waiting"));
                self.running.push(child);
                assert!(is_waiting, "{at}: it does not wait:\n{text}");
                // Somebody has to read what it says.
                std::thread::spawn(move || lines.for_each(drop));
            }
            ("sh", None) => {
                let output = machine.command("bash").args(["-euo", "pipefail", "-c", &text]).output();
                let output = output.expect("bash starts");
                let said = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{at}: {}\n{text}\n{said}", output.status);
            }
            _ => panic!("{at}: a block of an unknown kind"),
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for child in &mut self.running {
            if let Some(pid) = Pid::from_raw(child.id().cast_signed()) {
                let _ = kill_process(pid, Signal::TERM);
            }
            let _ = child.wait();
        }
        let _ = &self.scratch;
    }
}

fn run_page(page: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide").join(page);
    let text = fs::read_to_string(path).expect("the page is there");
    let blocks = blocks(&text);
    assert!(blocks.len() > 3, "{page} has commands");
    let mut stage = Stage::new(&blocks);
    for block in &blocks {
        stage.run(page, block);
    }
}

#[test]
fn a_nightly_backup() {
    run_page("nightly-backup.md");
}

#[test]
fn pulling_from_many_hosts() {
    run_page("pulling.md");
}

#[test]
fn database_dumps() {
    run_page("database-dumps.md");
}

#[test]
fn disk_images() {
    run_page("disk-images.md");
}

#[test]
fn moving_away_from_rsync() {
    run_page("rsync.md");
}

#[test]
fn every_page_is_run_and_listed() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guide");
    let (list, tests) =
        (fs::read_to_string(dir.join("README.md")).expect("a list"), include_str!("guide.rs"));
    for page in fs::read_dir(dir).expect("the pages") {
        let page = page.expect("an entry").file_name().into_string().expect("text");
        if page != "README.md" {
            assert!(list.contains(&format!("({page})")), "README.md does not list {page}");
            assert!(tests.contains(&format!("run_page(\"{page}\")")), "no test runs {page}");
        }
    }
}
