//! tidy — the house rules that a machine can check, as tests over the text of the repository.
//!
//! Each rule is a function from text to complaints, with small bad inputs below it; one test
//! applies them all to the real files and prints every complaint as `file:line: what`. Unit tests
//! (from an inline `#[cfg(test)] mod` to the end of a file, and files named `tests.rs`) may import
//! anything.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Files that may say `unsafe`: mapped memory and the kernel's rings.
const FENCED: [&str; 2] = ["src/spool/map.rs", "src/ring/"];

/// Characters per line, comments included.
const LINE_MAX: usize = 100;
/// Lines per file, unless its head says why it is long.
const FILE_MAX: usize = 800;
/// What the head of a longer file must say.
const LONG_BECAUSE: &str = "long because";

/// Something against the rules, at a line (0: the file as a whole).
#[derive(Debug, PartialEq, Eq)]
struct Complaint(usize, String);

/// The level of each room.
type Levels = BTreeMap<String, usize>;

/// The levels as src/lib.rs states them: each `pub mod` stands below a comment `// Level N: …`.
///
/// `main` is above all others.
fn levels(lib: &str) -> Result<Levels, Complaint> {
    let mut levels = Levels::new();
    let mut current = None;
    for (number, line) in (1..).zip(lib.lines()) {
        if let Some(title) = line.strip_prefix("// Level ") {
            let level = title.split(':').next().and_then(|level| level.parse().ok());
            current = Some(level.ok_or_else(|| Complaint(number, "not `// Level N: `".into()))?);
        }
        if let Some(room) = line.strip_prefix("pub mod ").and_then(|rest| rest.strip_suffix(';')) {
            let none = || Complaint(number, format!("room {room} has no level"));
            levels.insert(room.to_owned(), current.ok_or_else(none)?);
        }
    }
    levels.insert("main".into(), levels.values().max().map_or(0, |top| top + 1));
    Ok(levels)
}

/// Every room that has files has a level, and every level's room has files.
fn rooms_have_files(levels: &Levels, files: &[String]) -> Vec<Complaint> {
    let present: Vec<&str> = files
        .iter()
        .filter_map(|file| file.strip_prefix("src/"))
        .map(room_of)
        .filter(|room| *room != "lib")
        .collect();
    let absent = levels.keys().filter(|room| !present.contains(&room.as_str()));
    let homeless = present.iter().filter(|room| !levels.contains_key(**room));
    absent
        .map(|room| Complaint(0, format!("room {room} has no files")))
        .chain(homeless.map(|room| Complaint(0, format!("room {room} is not in lib.rs"))))
        .collect()
}

/// The room that a path below `src/` belongs to: `spool/map.rs` and `spool/mod.rs` to `spool`.
fn room_of(path: &str) -> &str {
    let first = path.split('/').next().unwrap_or(path);
    first.strip_suffix(".rs").unwrap_or(first)
}

/// The lines before the file's inline unit tests, comments and string contents cut away.
fn code(text: &str) -> Vec<(usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let tests_start = |pair: &[&str]| {
        pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod ") && pair[1].ends_with('{')
    };
    let end = lines.windows(2).position(tests_start).unwrap_or(lines.len());
    (1..).zip(&lines[..end]).map(|(number, line)| (number, without_words(line))).collect()
}

/// A line without its comment and without what stands between quotes.
///
/// Strings over several lines are not understood; no rule depends on them.
fn without_words(line: &str) -> String {
    let mut kept = String::new();
    let mut quoted = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if quoted => drop(characters.next()),
            '\'' if !quoted && characters.peek() == Some(&'"') => drop(characters.next()),
            '"' => quoted = !quoted,
            '/' if !quoted && characters.peek() == Some(&'/') => break,
            _ if quoted => {}
            _ => kept.push(character),
        }
    }
    kept
}

/// The rooms a line of code names, as `crate::spool::…`, `mailshot::spool::…`, `crate::{spool, …}`.
///
fn rooms_named(line: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    for prefix in ["crate::", "mailshot::"] {
        for (at, _) in line.match_indices(prefix) {
            let before = line[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let rest = &line[at + prefix.len()..];
            match rest.strip_prefix('{') {
                Some(group) => rooms.extend(group_heads(group)),
                None => rooms.push(identifier(rest)),
            }
        }
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

/// The first identifiers of `a::b, c::{d, e}, f}`, up to the closing brace.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 0;
    let mut start = 0;
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                heads.push(identifier(group[start..at].trim()));
                start = at + 1;
                if character == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    heads
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Imports point strictly down; a room may name itself, and the words of level 0 one another.
fn imports(levels: &Levels, path: &str, text: &str) -> Vec<Complaint> {
    let room = room_of(path);
    let Some(own) = levels.get(room) else { return Vec::new() };
    let mut complaints = Vec::new();
    for (line, statement) in statements(text) {
        for named in rooms_named(&statement) {
            // A name without a level is an item or a macro of the crate's root.
            let Some(other) = levels.get(&named) else { continue };
            if named != room && other >= own && (other, own) != (&0, &0) {
                let what = format!("{room} (level {own}) imports {named} (level {other})");
                complaints.push(Complaint(line, what));
            }
        }
    }
    complaints
}

/// Lines of code, with brace groups of `use` joined into one, numbered by their first line.
fn statements(text: &str) -> Vec<(usize, String)> {
    let mut joined: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (number, line) in code(text) {
        let starts = line.trim_start().trim_start_matches("pub ").starts_with("use ");
        let ends = line.contains(';');
        match joined.last_mut() {
            Some((_, statement)) if open => statement.push_str(&line),
            _ => joined.push((number, line)),
        }
        open = (open || starts) && !ends;
    }
    joined
}

/// The head of a file is its manual page.
fn head(text: &str) -> Vec<Complaint> {
    match text.starts_with("//! ") {
        true => Vec::new(),
        false => vec![Complaint(1, "the file does not open with its manual page, //! ".into())],
    }
}

/// The head says why a long file is long.
fn file_length(text: &str) -> Vec<Complaint> {
    let lines = text.lines().count();
    let excused = text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .any(|line| line.contains(LONG_BECAUSE));
    match lines > FILE_MAX && !excused {
        true => vec![Complaint(0, format!("{lines} lines; split it or say \"{LONG_BECAUSE}\""))],
        false => Vec::new(),
    }
}

/// No line is longer than a screen.
fn line_length(text: &str) -> Vec<Complaint> {
    let too_long = |line: &str| line.chars().count() > LINE_MAX;
    complaints_where(text, too_long, &format!("above {LINE_MAX} characters"))
}

/// Words that have no business in a finished text: notes to self, and traces of where it was made.
///
/// Spelled in pieces, so that this file does not complain about itself.
fn forbidden_words(text: &str) -> Vec<Complaint> {
    let words = [
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("XX", "X"),
        concat!("/wo", "rk/"),
        concat!("/tmp/", "wt"),
        concat!("iss", "ue #"),
    ];
    words
        .into_iter()
        .flat_map(|word| {
            complaints_where(text, |line| names_word(line, word), &format!("says {word}"))
        })
        .collect()
}

/// Whether `line` has `word` where no letter continues it on either side (names may contain it).
fn names_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let word_ends = |c: Option<char>| !c.is_some_and(|c| c.is_ascii_alphanumeric());
        let whole = word.chars().all(|c| c.is_ascii_uppercase());
        !whole || (word_ends(before) && word_ends(after))
    })
}

/// `unsafe` stays in the files fenced for it.
fn unsafe_is_fenced(path: &str, text: &str) -> Vec<Complaint> {
    if FENCED.iter().any(|fence| path.starts_with(fence)) {
        return Vec::new();
    }
    let word_end = |c: char| !(c.is_alphanumeric() || c == '_');
    code(text)
        .into_iter()
        .filter(|(_, line)| line.split(word_end).any(|word| word == "unsafe"))
        .map(|(number, _)| Complaint(number, "unsafe outside the fenced files".into()))
        .collect()
}

/// Each dependency says why it is there: a comment on its line, or on the line above its table.
fn dependencies_say_why(manifest: &str) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut section = "";
    let mut above = "";
    for (at, line) in manifest.lines().enumerate() {
        let silent = match line.trim().strip_prefix('[') {
            Some(header) => {
                section = header;
                let table = ["dependencies.", "dev-dependencies.", "build-dependencies."];
                table.iter().any(|start| header.starts_with(start))
                    && !(line.contains('#') || above.starts_with('#'))
            }
            None => {
                let name = line.split('=').next().unwrap_or("").trim();
                let entry = line.contains('=') && !line.starts_with([' ', '#', ']']);
                section.contains("dependencies]") && entry && !name.is_empty() && !has_reason(line)
            }
        };
        if silent {
            complaints.push(Complaint(at + 1, format!("no `# why` on: {}", line.trim())));
        }
        above = line;
    }
    complaints
}

/// Whether a comment with words follows the last quote of a manifest line.
fn has_reason(line: &str) -> bool {
    let value_end = line.rfind(['"', '}']).map_or(0, |at| at + 1);
    line[value_end..].split_once('#').is_some_and(|(_, why)| !why.trim().is_empty())
}

fn complaints_where(text: &str, bad: impl Fn(&str) -> bool, what: &str) -> Vec<Complaint> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| bad(line))
        .map(|(at, _)| Complaint(at + 1, what.to_owned()))
        .collect()
}

/// Every file below `folder` with one of `endings`, relative to the repository, sorted.
fn files(folder: &str, endings: &[&str]) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.map(|entry| entry.expect("a listed folder can be read").path()) {
            if entry.is_dir() && !entry.ends_with("target") {
                folders.push(entry);
            } else if entry.extension().is_some_and(|e| endings.iter().any(|known| e == *known)) {
                found.push(relative(root, &entry));
            }
        }
    }
    found.sort();
    found
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).expect("found below the root").display().to_string()
}

fn read(path: &str) -> String {
    let whole: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&whole).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All rules that a Rust file of the repository obeys.
fn rust_rules(levels: &Levels, path: &str, text: &str) -> Vec<Complaint> {
    let mut complaints = head(text);
    complaints.extend(file_length(text));
    complaints.extend(line_length(text));
    if let Some(inner) = path.strip_prefix("src/") {
        complaints.extend(unsafe_is_fenced(path, text));
        if inner != "lib.rs" && !inner.ends_with("tests.rs") {
            complaints.extend(imports(levels, inner, text));
        }
    }
    complaints
}

#[test]
fn the_repository_keeps_the_rules() {
    let levels = levels(&read("src/lib.rs")).expect("src/lib.rs gives each room a level");
    let mut found: Vec<(String, Complaint)> = Vec::new();
    let mut note = |path: &str, complaints: Vec<Complaint>| {
        found.extend(complaints.into_iter().map(|complaint| (path.to_owned(), complaint)));
    };
    for folder in ["src", "tests", "tools", "benches"] {
        for path in files(folder, &["rs"]) {
            note(&path, rust_rules(&levels, &path, &read(&path)));
        }
    }
    for folder in ["src", "tests", "tools", "benches", "docs", "datasets", "pipelines"] {
        for path in files(folder, &["rs", "md", "toml", "py", "pl", "sh", "sql"]) {
            note(&path, forbidden_words(&read(&path)));
        }
    }
    for path in ["README.md", "Cargo.toml", "tools/setup", "tools/test", ".ci/run"] {
        note(path, forbidden_words(&read(path)));
    }
    note("src/lib.rs", rooms_have_files(&levels, &files("src", &["rs"])));
    note("Cargo.toml", dependencies_say_why(&read("Cargo.toml")));
    let lines: Vec<String> = found
        .iter()
        .map(|(path, Complaint(line, what))| format!("{path}:{line}: {what}"))
        .collect();
    assert!(lines.is_empty(), "{} complaints:\n{}", lines.len(), lines.join("\n"));
}

/// The lines complained about.
fn at(complaints: Vec<Complaint>) -> Vec<usize> {
    complaints.into_iter().map(|Complaint(line, _)| line).collect()
}

#[test]
fn imports_point_strictly_down() {
    let levels = levels(HOUSE).expect("a house in order");
    for (path, text, expected) in [
        ("spool/map.rs", "use crate::units::Utc;\nuse crate::dkim::sign;", vec![]),
        ("spool/map.rs", "use crate::spool::Segment;\nuse super::Segment;", vec![]),
        ("spool/mod.rs", "use std::fs;\n\nuse crate::ledger::Ledger;", vec![3]),
        ("units.rs", "fn f() { crate::problem::suggest(\"\") }", vec![]),
        ("units.rs", "fn f() { crate::smtp::judge(\"\") }", vec![1]),
        ("dkim/sign.rs", "use crate::{\n    units,\n    smtp::{self, Reply},\n};", vec![1]),
        ("dkim/sign.rs", "use crate::{units::{Rate, Utc}, message};", vec![1]),
        ("dkim/sign.rs", "// not crate::deliver\nlet s = \"crate::deliver\";", vec![]),
        ("dkim/sign.rs", "#[cfg(test)]\nmod tests {\n    use crate::message;\n}", vec![]),
        ("dkim/mod.rs", "#[cfg(test)]\nmod tests;\nuse crate::message;", vec![3]),
        ("prepare.rs", "pub use crate::deliver::Lane;", vec![1]),
        ("main.rs", "use mailshot::cli;\nfn main() { mailshot::report::write() }", vec![]),
        ("cli/mod.rs", "use crate::prepare;\nuse crate::report;", vec![2]),
        ("units.rs", "use other_crate::deliver;\nuse crate::numbered;", vec![]),
    ] {
        assert_eq!(at(imports(&levels, path, text)), expected, "{path}: {text}");
    }
}

/// A small lib.rs.
const HOUSE: &str = "\
// Level 0: words.
pub mod units;
pub mod problem;
// Level 1: pure.
pub mod dkim;
pub mod message;
pub mod smtp;
// Level 2: kernel.
pub mod ledger;
pub mod spool;
// Level 3: stages.
pub mod deliver;
pub mod prepare;
// Level 4: front.
pub mod cli;
pub mod report;
";

#[test]
fn each_room_has_a_level_and_files() {
    let house = levels(HOUSE).expect("a house in order");
    assert_eq!((house["units"], house["spool"], house["main"]), (0, 2, 5));
    let early = levels(&format!("pub mod attic;\n{HOUSE}"));
    assert_eq!(early, Err(Complaint(1, "room attic has no level".into())));
    assert_eq!(levels("// Level two\n"), Err(Complaint(1, "not `// Level N: `".into())));
    let mut present: Vec<String> = house.keys().map(|room| format!("src/{room}.rs")).collect();
    present.extend(["src/lib.rs".into(), "src/spool/map.rs".into()]);
    assert_eq!(rooms_have_files(&house, &present), vec![]);
    present.retain(|file| file != "src/smtp.rs");
    present.push("src/attic/mod.rs".into());
    let expected = ["room smtp has no files", "room attic is not in lib.rs"];
    assert_eq!(rooms_have_files(&house, &present), expected.map(|w| Complaint(0, w.into())));
}

#[test]
fn files_have_a_head_and_an_end() {
    assert_eq!(at(head("use std::fs;\n")), vec![1]);
    assert_eq!(at(head("//! units — points in time.\n")), vec![]);
    let long = "//! a — b.\n".to_owned() + &"\n".repeat(FILE_MAX);
    assert_eq!(at(file_length(&long)), vec![0]);
    assert_eq!(at(file_length(&long[..FILE_MAX])), vec![]);
    let excused = format!("//! a — b.\n//! It is {LONG_BECAUSE} of a table.\n{long}");
    assert_eq!(at(file_length(&excused)), vec![]);
    let late = format!("{long}\n//! It is {LONG_BECAUSE} of a table.\n");
    assert_eq!(at(file_length(&late)), vec![0]);
}

#[test]
fn lines_are_counted_in_characters() {
    let (fits, exceeds) = ("ü".repeat(LINE_MAX), "ü".repeat(LINE_MAX + 1));
    assert_eq!(at(line_length(&format!("{fits}\n{exceeds}\n"))), vec![2]);
}

#[test]
fn unfinished_business_is_found() {
    let note = ["FIX", "ME"].concat();
    let path = ["/wo", "rk/x"].concat();
    let number = ["see iss", "ue #7"].concat();
    let text = format!("a\n// {note}: b\nlet path = \"{path}\";\nPRE{note}\n// {number}\n");
    let mut lines = at(forbidden_words(&text));
    lines.sort_unstable();
    assert_eq!(lines, vec![2, 3, 5]);
}

#[test]
fn unsafe_code_is_fenced() {
    let text = "#![expect(unsafe_code)]\n// unsafe\nlet x = unsafe { y() };\n";
    assert_eq!(at(unsafe_is_fenced("src/dkim/sign.rs", text)), vec![3]);
    assert_eq!(at(unsafe_is_fenced("src/spool/map.rs", text)), vec![]);
    assert_eq!(at(unsafe_is_fenced("src/ring/buffers.rs", text)), vec![]);
    assert_eq!(at(unsafe_is_fenced("src/spool/mod.rs", text)), vec![3]);
}

#[test]
fn dependencies_have_reasons() {
    let manifest = r##"
[package]
name = "x"
[dependencies]
# the next one is silent
csv = "1.4"
toml = { version = "1", features = ["parse"] } # campaign files
odd = "1#2" #
[dependencies.parquet] # accounting
version = "60"
# why: signatures
[dependencies.mail-auth]
version = "=0.13.3"
[dev-dependencies.other]
version = "1"
[dev-dependencies]
tempfile = "3" # scratch folders
proptest = "1"
"##;
    assert_eq!(at(dependencies_say_why(manifest)), vec![6, 8, 14, 18]);
}
