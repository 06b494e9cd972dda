//! The papers say what is so: the README and its kin are held to the code, and the code to the map.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use clap::{ArgAction, CommandFactory, Parser};
use serde_json::Value;
use sessiond::config::Config;
use sessiond_tests::World;

const PAPERS: [&str; 13] = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "docs/generate.md",
    "docs/raw-grpc.md",
    "docs/redis.md",
    "proto/README.md",
    "client/README.md",
    "adapters/python/README.md",
    "adapters/python/bench/README.md",
    "adapters/python/docs/coming-from.md",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files below a folder, by their path in the repository, in order. What builds and editors leave is not among them.
fn files(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("an entry of the folder").path();
            let name = path.file_name().expect("it has a name").to_string_lossy();
            let foreign = matches!(&*name, "target" | "__pycache__") || name.starts_with("mutants.out");
            let compiled = name.ends_with(".abi3.so");
            let hidden = name.starts_with('.') && !matches!(&*name, ".ci" | ".gitignore" | ".dockerignore");
            if path.is_dir() && !foreign && !hidden {
                folders.push(path);
            } else if path.is_file() && !hidden && !compiled {
                let inside = path.strip_prefix(root()).expect("it is in the repository");
                found.push(inside.to_string_lossy().into_owned());
            }
        }
    }
    found.sort();
    found
}

// ---- the README -----------------------------------------------------------------------

#[test]
fn the_readme_tells_the_configuration_as_the_code_does() {
    let readme = read("README.md");
    let (_, table) =
        readme.split_once("| flag | variable | default | meaning |\n|---|---|---|---|\n").expect("the table");
    let told: Vec<Vec<String>> = table.lines().take_while(|line| line.starts_with('|')).map(cells).collect();
    let is: Vec<Vec<String>> = Config::command().get_arguments().map(flag).collect();
    assert_eq!(told, is);
}

/// The cells of a line, without the backticks.
fn cells(line: &str) -> Vec<String> {
    line.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect()
}

/// A flag as the table tells it: its name, its variable, its default, and the first sentence of its help.
fn flag(flag: &clap::Arg) -> Vec<String> {
    let help = flag.get_help().expect("every flag has its help").to_string().replace('`', "");
    let sentence = help.split_once(". ").map_or(&help[..], |(first, _)| first);
    // A default that clap cannot know stands at the end of the help.
    let (meaning, computed) = match sentence.strip_suffix(']').and_then(|s| s.split_once(" [default: ")) {
        Some((meaning, default)) => (meaning, Some(default.to_owned())),
        None => (sentence, None),
    };
    let default = match flag.get_action() {
        ArgAction::SetTrue => "off".to_owned(),
        _ => match flag.get_default_values() {
            [] => computed.expect("what has no default says so"),
            values => values.iter().map(|value| value.to_string_lossy()).collect(),
        },
    };
    let name = format!("--{}", flag.get_long().expect("every flag is a long one"));
    let variable = flag.get_env().expect("every flag has its variable").to_string_lossy().into_owned();
    assert_eq!(variable, name.trim_start_matches('-').to_uppercase().replace('-', "_").replacen("", "SESSIOND_", 1));
    vec![name, variable, default, meaning.to_owned()]
}

#[test]
fn the_readme_names_every_promise_and_where_it_is_proved() {
    let readme = read("README.md");
    for promise in 1..=9 {
        let row =
            readme.lines().find(|line| line.starts_with(&format!("| **P{promise} "))).expect("every promise has a row");
        assert!(row.contains("](tests/it/"), "P{promise} names no test");
    }
}

#[test]
fn the_readmes_ways_to_start_are_ones() {
    let readme = read("README.md");
    let starts = readme.lines().filter(|line| !line.contains("--example"));
    let starts: Vec<_> = starts.filter_map(|line| line.strip_prefix("cargo run")).collect();
    assert_eq!(starts.len(), 2);
    for arguments in starts {
        let arguments = arguments.strip_prefix(" --").unwrap_or(arguments).split_whitespace();
        Config::try_parse_from(["sessiond"].into_iter().chain(arguments)).expect("the README's flags are flags");
    }
}

/// The blocks of one language, in order.
fn blocks(paper: &str, language: &str) -> Vec<String> {
    let opening = format!("\n```{language}\n");
    paper.split(&opening).skip(1).map(|rest| rest.split("\n```").next().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readmes_session_runs_as_printed() {
    let present = Command::new("grpcurl").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if present.is_err() {
        eprintln!("SKIPPED: the README's session was not run, as grpcurl is not on PATH");
        return;
    }
    let readme = read("README.md");
    let (session, _) = readme.split_once("\n## The promises").expect("the session stands above the promises");
    let commands: Vec<_> = blocks(session, "sh").into_iter().filter(|block| block.contains("call ")).collect();
    let shown = blocks(session, "json").join("\n");
    assert_eq!(commands.len(), 2);

    let world = World::memory(&[]).await;
    let script = commands.join("\n").replace("127.0.0.1:50051", &world.server.address().to_string());
    let ran = tokio::process::Command::new("bash").args(["-euc", &script]).output().await.expect("bash runs");
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success() && err.is_empty(), "{out}\n{err}");
    let (shown, seen) = (answers(&shown), answers(&out));
    assert_eq!(shown.len(), seen.len(), "{out}");
    let mut named = HashMap::new();
    for (shown, seen) in shown.iter().zip(&seen) {
        same(shown, seen, &mut named);
    }
}

fn answers(text: &str) -> Vec<Value> {
    let answers = serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>();
    answers.unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// What was seen is what was shown; `<names>` stand for what differs from run to run, each for the same thing throughout.
fn same(shown: &Value, seen: &Value, named: &mut HashMap<String, Value>) {
    match (shown, seen) {
        (Value::Object(shown), Value::Object(seen)) => {
            assert_eq!(shown.keys().collect::<Vec<_>>(), seen.keys().collect::<Vec<_>>());
            shown.iter().for_each(|(key, value)| same(value, &seen[key], named));
        }
        (Value::String(name), seen) if name.starts_with('<') => {
            assert_eq!(named.entry(name.clone()).or_insert_with(|| seen.clone()), seen, "{name}");
        }
        (shown, seen) => assert_eq!(shown, seen),
    }
}

// ---- all papers -----------------------------------------------------------------------

#[test]
fn every_path_in_the_papers_leads_somewhere() {
    for paper in PAPERS {
        let text = read(paper);
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let links = links.filter(|link| !link.contains("://")).map(|link| link.split('#').next().unwrap_or_default());
        let named = text.split('`').skip(1).step_by(2).filter_map(|code| code.split_whitespace().next());
        // A link is followed from where its paper lies.
        let here = Path::new(paper).parent().unwrap_or(Path::new(""));
        let links = links.filter(|link| !link.is_empty()).map(|link| here.join(link));
        let folders =
            ["adapters/", "server/", "client/", "bench/", "proto/", "docs/", "tests/", "scripts/", "deploy/", ".ci/"];
        let named = named.filter(|name| folders.iter().any(|folder| name.starts_with(folder))).map(PathBuf::from);
        for path in links.chain(named) {
            assert!(root().join(&path).exists(), "{paper} names {}, which is not there", path.display());
        }
    }
}

#[test]
fn no_file_holds_a_left_over() {
    // In halves, so that this file is not among them.
    let left_overs = [["TO", "DO"], ["FIX", "ME"], ["/ho", "me/"], ["/Us", "ers/"], ["/ro", "ot/"], ["/wo", "rk/"]];
    for path in files(".") {
        let bytes = fs::read(root().join(&path)).expect("it can be read");
        let text = String::from_utf8_lossy(&bytes);
        for left_over in left_overs.map(|halves| halves.concat()) {
            assert!(!text.contains(&left_over), "{path} holds {left_over:?}");
        }
    }
}

// ---- the map --------------------------------------------------------------------------

/// What a file must not mention, as a word before `::` or within a `use`.
fn must_not_see(file: &str) -> Vec<&'static str> {
    const WIRE: [&str; 7] =
        ["tonic", "tonic_types", "tonic_health", "tonic_reflection", "prost", "prost_types", "sessiond_proto"];
    const REDIS: [&str; 3] = ["redis", "bb8", "bb8_redis"];
    const HTTP: [&str; 4] = ["http", "h2", "hyper", "tower"];
    let rooms: &[&str] = match file {
        "deadline.rs" | "log_limit.rs" => {
            &["clock", "random", "session", "store", "rules", "grpc", "memory", "config", "shard", "health"]
        }
        "session.rs" | "clock.rs" | "random.rs" => &["tokio", "store", "rules", "grpc", "config", "shard", "health"],
        "store.rs" => &["tokio", "clock", "random", "rules", "grpc", "config", "shard", "health"],
        "store/memory.rs" => &["tokio", "random", "rules", "grpc", "config", "shard", "health"],
        "store/redis.rs" => &["random", "rules", "grpc", "config", "shard", "health"],
        "rules.rs" => &["clock", "SystemTime", "Instant", "memory", "grpc", "config", "shard", "health"],
        "grpc.rs" => &["clock", "random", "memory", "config", "shard", "health"],
        "metrics.rs" => {
            &["clock", "random", "session", "store", "rules", "grpc", "memory", "config", "shard", "health"]
        }
        "health.rs" => &["clock", "random", "rules", "grpc", "memory", "config", "shard"],
        "shard.rs" => {
            &["clock", "random", "session", "store", "rules", "grpc", "memory", "config", "health", "metrics", "tonic"]
        }
        "routes.rs" => &["clock", "random", "rules", "memory", "config"],
        "lib.rs" => &["clock", "memory", "config"],
        "config.rs" => &["clock", "random", "session", "memory", "shard", "health", "tokio"],
        "main.rs" => &["rules", "grpc", "session", "shard", "health"],
        _ => panic!("{file} is in no room that ARCHITECTURE.md knows"),
    };
    let wire = if matches!(file, "grpc.rs" | "health.rs" | "routes.rs" | "lib.rs") { &WIRE[..0] } else { &WIRE };
    let http = if matches!(file, "grpc.rs" | "metrics.rs" | "routes.rs" | "shard.rs") { &HTTP[..0] } else { &HTTP };
    let redis = if file == "store/redis.rs" { &REDIS[..0] } else { &REDIS };
    [rooms, wire, http, redis].concat()
}

/// The doors: who may name what all the same.
const DOORS: [(&str, &str); 4] = [
    // The command line tells where Redis is, and what a call is held to.
    ("config.rs", "store::redis::RedisOptions"),
    ("config/store_url.rs", "store::redis::RedisUrl"),
    ("config.rs", "grpc::EdgeLimits"),
    // Someone must choose the store.
    ("main.rs", "redis::RedisStore"),
];

/// The Rust files of the service.
fn code() -> Vec<(String, String)> {
    code_below("server/src")
}

/// The Rust files below a folder: their path in it, and their code without comments and tests.
fn code_below(folder: &str) -> Vec<(String, String)> {
    let sources = files(folder).into_iter().filter(|path| path.ends_with(".rs"));
    let uncommented = |text: String| {
        let tested = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
        let lines = tested.lines().filter(|line| !line.trim_start().starts_with("//"));
        lines.map(|line| line.split(" // ").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
    };
    sources.map(|path| (path[folder.len() + 1..].to_owned(), uncommented(read(&path)))).collect()
}

/// The file that stands for a room: `grpc/wire.rs` lives in `grpc.rs`, and `store/redis/keys.rs` in `store/redis.rs`.
fn room(path: &str) -> String {
    let mut room = PathBuf::from(path);
    while !matches!(room.to_str(), Some("store/memory.rs" | "store/redis.rs")) {
        match room.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => room = parent.with_extension("rs"),
            None => break,
        }
    }
    room.to_string_lossy().into_owned()
}

/// The words of a text that are followed by `::`, and all words of its `use` items.
fn mentions(code: &str) -> Vec<&str> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut mentions = Vec::new();
    let mut rest = code;
    while let Some((before, after)) = rest.split_once("::") {
        let start = before.rfind(|c| !is_word(c)).map_or(0, |at| at + 1);
        mentions.push(&before[start..]);
        rest = after;
    }
    for item in code.split("\nuse ").skip(1).chain(code.split("\npub use ").skip(1)) {
        let item = item.split(';').next().unwrap_or_default();
        mentions.extend(item.split(|c| !is_word(c)));
    }
    mentions
}

#[test]
fn every_room_looks_only_to_its_left() {
    for (path, mut code) in code() {
        let room = room(&path);
        for (_, door) in DOORS.iter().filter(|(file, _)| *file == path) {
            assert!(code.contains(door.rsplit("::").next().unwrap_or(door)), "{path} has no use for its door {door}");
            code = code.replace(door, "");
        }
        let seen = mentions(&code);
        for word in must_not_see(&room) {
            assert!(!seen.contains(&word), "{path} mentions `{word}`, which {room} must not see");
        }
    }
}

/// What a file of the client must not mention: its rooms are the second table of ARCHITECTURE.md.
fn client_must_not_see(file: &str) -> Vec<&'static str> {
    const PROTOBUF: [&str; 3] = ["prost", "prost_types", "sessiond_proto"];
    const TONIC: [&str; 2] = ["tonic", "tonic_types"];
    const FRAMEWORKS: [&str; 5] = ["axum_core", "tower_layer", "tower_service", "actix_session", "anyhow"];
    // The service, which the client knows by its contract alone.
    const SERVICE: [&str; 1] = ["sessiond"];
    let is = |room: &str| file == format!("{room}.rs") || file.starts_with(&format!("{room}/"));
    let mut unseen = SERVICE.to_vec();
    if !is("client") && !matches!(file, "value/wire.rs" | "actix/json.rs") {
        unseen.extend(PROTOBUF);
    }
    if !is("client") && file != "error.rs" {
        unseen.extend(TONIC);
    }
    if !is("axum") && !is("actix") {
        unseen.extend(FRAMEWORKS);
    }
    if !is("axum") && !is("client") && !is("cookie") {
        unseen.push("http");
    }
    if !is("axum") && !is("client") {
        unseen.push("tokio");
    }
    unseen
}

#[test]
fn the_clients_rooms_see_what_they_may() {
    let sources = code_below("client/src");
    assert!(sources.len() > 20);
    for (path, code) in sources {
        // Files of tests alone.
        if path.ends_with("/tests.rs") || path.ends_with("/vectors.rs") {
            continue;
        }
        let seen = mentions(&code);
        for word in client_must_not_see(&path) {
            assert!(!seen.contains(&word), "client/src/{path} mentions `{word}`, which its room must not see");
        }
    }
}

#[test]
fn what_is_absent_is_absent() {
    // What may be said, and only where.
    let homes: [(&str, &[&str]); 8] = [
        ("Code::", &["grpc/status.rs", "grpc/edge.rs"]),
        ("Status::with_error_details", &["grpc/status.rs"]),
        ("Status::new", &[]),
        ("ErrorReason", &["grpc/status.rs"]),
        ("SystemTime", &["clock.rs"]),
        ("getrandom", &["random.rs"]),
        (".reveal()", &["grpc/wire.rs", "session.rs"]),
        ("env::var", &["config/environment.rs"]),
    ];
    for (path, code) in code() {
        for (word, homes) in homes {
            let is_part = |at: usize| !word.starts_with('.') && code[..at].ends_with(char::is_alphanumeric);
            let said = code.match_indices(word).any(|(at, _)| !is_part(at));
            assert!(!said || homes.contains(&&path[..]), "{path} says `{word}`, whose home is {homes:?}");
        }
    }
}

#[test]
fn every_script_has_its_papers() {
    let loader = read("server/src/store/redis/scripts.rs");
    let scripts: Vec<_> = files("server/src").into_iter().filter(|path| path.ends_with(".lua")).collect();
    assert!(scripts.len() > 1);
    for path in scripts {
        let (text, name) = (read(&path), path.rsplit('/').next().unwrap_or_default());
        let is_shared = name == "record.lua";
        let (first, rest) = if is_shared { ("", &text[..]) } else { text.split_once('\n').expect("it has lines") };
        assert!(is_shared || first == "#!lua" || first.starts_with("#!lua flags="), "{path} begins with {first:?}");
        let header: String = rest.lines().take_while(|line| line.starts_with("--")).collect::<Vec<_>>().join("\n");
        let papers: &[&str] = if is_shared {
            &["what the scripts share", "KEYS[1]", "ARGV[1]", "ARGV[2]", "Every reply:", "LATE"]
        } else {
            &["A script, because ", "-- ARGV: ", "-- Answers", "LATE", "Safe to run twice: "]
        };
        assert!(header.starts_with(&format!("-- {name}: ")), "{path} does not say what it does");
        for paper in papers {
            assert!(header.contains(paper), "{path} lacks {paper:?} in its header");
        }
        assert!(loader.contains(&format!("include_str!(\"lua/{name}\")")), "{path} is not loaded");
        // What decides comes before what is written, and `late` before everything.
        if !is_shared {
            let code = &rest[header.len()..];
            let late = code.find("if late then return answer('LATE') end").expect("it heeds `late`");
            let touches = ["redis.call", "read()", "put("].iter().filter_map(|call| code.find(call)).min();
            assert!(
                touches.is_none_or(|touch| late < touch),
                "{path} does something before it knows whether it is late"
            );
        }
    }
}

// ---- the contract ---------------------------------------------------------------------

#[test]
fn every_error_reason_has_a_worked_example() {
    let contract = read("proto/sessiond/v1/error_reason.proto");
    let status = read("server/src/grpc/status.rs");
    let (mut papers, mut reasons) = (String::new(), 0);
    for line in contract.lines().map(str::trim) {
        if let Some(comment) = line.strip_prefix("//") {
            papers.push_str(comment.trim());
            papers.push('\n');
            continue;
        }
        let reason = line.strip_prefix("ERROR_REASON_").and_then(|rest| rest.split(" = ").next());
        if let Some(reason) = reason.filter(|reason| *reason != "UNSPECIFIED") {
            reasons += 1;
            let code = papers.split(':').next().unwrap_or_default();
            assert!(
                !code.is_empty() && code.chars().all(|c| c.is_ascii_uppercase() || c == '_'),
                "{reason} names no code"
            );
            let example = papers.lines().find(|line| line.starts_with("{ \"reason\"")).expect("a worked example");
            let example: Value = serde_json::from_str(example).expect("the example is JSON");
            assert_eq!((&example["reason"], &example["domain"]), (&reason.into(), &"sessiond".into()));
            assert!(example["metadata"].is_object(), "{reason}'s example has no metadata");
            assert!(status.contains(&format!("Reason::{}", camel(reason))), "{reason} has no code in the table");
        }
        papers.clear();
    }
    assert!(reasons > 0, "the contract lists reasons");
}

/// `SESSION_NOT_FOUND` as Rust has it.
fn camel(reason: &str) -> String {
    reason.split('_').map(|word| word[..1].to_owned() + &word[1..].to_lowercase()).collect()
}
