//! Dry runs: they change nothing, and the transfer then does what they said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Session, Setup, Tree, bytes, greet, one_file, random, receive, seeds, send_on, source};
use crate::event::{ChangeKind, Event, Outcome};
use crate::protocol::final_name::Exists;
use crate::protocol::request::Request;
use crate::testing::disk::{MemoryTarget, Node};

const NAMES: [&str; 12] = ["a", "b", "c", "d", "d/a", "d/b", "d/e", "d/e/a", "e", "e/a", "f", "g"];

/// What becomes of an entry: its path, a word, and its other name.
type Line = (String, &'static str, Option<String>);

/// A tree drawn from `seed`: a name that holds another one is a directory.
fn tree(seed: u64) -> Tree {
    let mut tree = Tree::new();
    for (number, name) in NAMES.into_iter().enumerate() {
        let draw = random(seed ^ (number as u64) << 32);
        let has_dir = name.rsplit_once('/').is_none_or(|(dir, _)| tree.contains(&(dir, Node::Dir)));
        if draw.is_multiple_of(4) || !has_dir {
            continue;
        }
        tree.push((
            name,
            match draw / 4 % 6 {
                0 | 1 => Node::Dir,
                2 => Node::Link(vec![b'a' + u8::try_from(draw / 24 % 2).unwrap()]),
                3 => Node::File(Vec::new()),
                _ => Node::File(bytes(draw / 24 % 2, 1 + draw / 48 % 2)),
            },
        ));
    }
    tree
}

fn target(tree: &Tree) -> MemoryTarget {
    tree.iter().fold(MemoryTarget::new(), |target, (name, node)| target.with(name, node.clone()))
}

fn session(seed: u64, exists: Exists, is_dry: bool) -> Session {
    let mut session = Session::new(seed);
    session.exists = exists;
    let compares = random(seed).is_multiple_of(2);
    session.sender.context.request = Request { compares, is_dry, ..Request::default() };
    session
}

fn events(setup: &Setup) -> Vec<Event> {
    setup.told.0.lock().unwrap().clone()
}

/// What a dry run says.
fn said(session: &Session) -> BTreeSet<Line> {
    let lines = events(&session.sender).into_iter().filter_map(|event| match event {
        Event::Change(one) => {
            Some((one.path.to_string(), one.kind.as_str(), one.renamed.map(|name| name.to_string())))
        }
        _ => None,
    });
    lines.collect()
}

/// What a transfer has done.
fn done(
    session: &Session,
    before: &BTreeMap<Vec<u8>, Node>,
    after: &BTreeMap<Vec<u8>, Node>,
) -> BTreeSet<Line> {
    let files = events(&session.sender).into_iter().filter_map(|event| match event {
        Event::File(one) => {
            let is_there = before.contains_key(one.path.as_bytes());
            let kind = match one.outcome {
                Outcome::Written if one.renamed.is_some() => ChangeKind::Rename,
                Outcome::Written if is_there => ChangeKind::Replace,
                Outcome::Written => ChangeKind::Create,
                Outcome::Updated => ChangeKind::Update,
                Outcome::Skipped => ChangeKind::Skip,
                Outcome::Failed(_) => ChangeKind::Refuse,
                Outcome::Identical | Outcome::Unchanged => return None,
                other => panic!("{other:?}"),
            };
            Some((one.path.to_string(), kind.as_str(), one.renamed.map(|name| name.to_string())))
        }
        _ => None,
    });
    let new_dirs = after.iter().filter(|(path, node)| **node == Node::Dir && !before.contains_key(*path));
    let new_dirs = new_dirs.map(|(path, _)| (String::from_utf8(path.clone()).unwrap(), "create", None));
    files.chain(new_dirs).collect()
}

fn nodes(target: &MemoryTarget) -> BTreeMap<Vec<u8>, Node> {
    target.tree().into_iter().map(|(path, (node, _))| (path, node)).collect()
}

/// [W-74]
#[tokio::test(start_paused = true)]
async fn a_dry_run_says_what_the_transfer_then_does() {
    let mut changes = BTreeSet::new();
    for seed in seeds() {
        for exists in Exists::ALL {
            let (new, old) = (tree(seed), tree(seed + 1000));
            let target = target(&old);
            let before = target.snapshot();
            let dry = session(seed, exists, true);
            let ended = dry.run(&source(&new), &target).await;
            let (sent, received) = (ended.sent.unwrap(), ended.received.unwrap());
            assert!(sent.is_dry && received.is_dry);
            assert_eq!((target.snapshot(), target.ops()), (before, vec![]), "seed {seed}");
            let there = nodes(&target);
            let real = session(seed, exists, false);
            let real_sent = real.run(&source(&new), &target).await.sent.unwrap();
            let (said, done) = (said(&dry), done(&real, &there, &nodes(&target)));
            assert_eq!(said, done, "seed {seed}, {exists:?}");
            let counts = |summary: &crate::event::Summary| {
                (summary.files, summary.links, summary.dirs, summary.bytes, summary.failed, summary.gravest)
            };
            assert_eq!(counts(&sent), counts(&real_sent), "seed {seed}, {exists:?}");
            changes.extend(said.into_iter().map(|(_, change, _)| change));
        }
    }
    if seeds().count() > 1 {
        assert_eq!(changes, ["create", "refuse", "rename", "replace", "skip"].into());
    }
}

/// [W-75] What an older receiver would do, which does not know of dry runs.
#[tokio::test(start_paused = true)]
async fn nothing_is_sent_in_a_dry_run_to_a_receiver_that_wants_it() {
    let (source, target) = (source(&one_file(100)), MemoryTarget::new());
    let mut session = Session::new(1);
    session.sender.context.request.is_dry = true;
    let (sending, mut receiving) = greet(session.connect().0).await;
    let context = &session.receiver.context;
    let ignoring = async {
        let offer = receive::offer::offer(&mut receiving, context).await?;
        let (target, name) = (Arc::new(target), "/memory".to_owned());
        receive::driver::run(receiving, offer, target, name, Exists::Refuse, context.clone()).await
    };
    let (sent, _) = tokio::join!(send_on(sending, &source, &session.sender.context), ignoring);
    let failure = sent.unwrap_err();
    assert!(failure.message.contains("none of a dry run"), "{failure}");
    assert_eq!(source.bytes_read(), 0);
}
