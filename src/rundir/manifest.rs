//! manifest — what a run was started with, frozen: the resumed run must be the same run.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{RunDirError, at};

/// The version of the manifest's form; another one is not read.
const VERSION: u32 = 1;

/// A file that went into the run, and the SHA-256 of its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// What it is: `campaign`, `html`, `text`, `list`.
    pub role: String,
    /// Its path at the start.
    pub path: String,
    /// 64 hexadecimal digits.
    pub sha256: String,
}

/// The facts that must not change under a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// Everything that was read.
    pub inputs: Vec<Digest>,
    /// Data rows of the list.
    pub rows: u32,
    /// Rows excluded at intake, by reason.
    pub excluded: Vec<(String, u32)>,
}

/// A run's manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The form of this file.
    pub version: u32,
    /// The tool that started the run.
    pub tool: String,
    /// The campaign's id.
    pub campaign: String,
    /// The run's ULID.
    pub run: String,
    /// When the run was started: microseconds since 1970, UTC.
    pub started_us: i64,
    /// The same for people.
    pub started: String,
    /// What must not change.
    pub frozen: Frozen,
}

impl Manifest {
    /// The manifest's form in this version.
    pub const VERSION: u32 = VERSION;

    /// Reads a manifest.
    ///
    /// # Errors
    /// When the file cannot be read or is of another form.
    pub fn read(path: &Path) -> Result<Manifest, RunDirError> {
        let text = std::fs::read_to_string(path).map_err(at(path))?;
        let wrong = |why: String| RunDirError::NotAManifest { path: path.to_owned(), why };
        let manifest: Manifest = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
        match manifest.version {
            VERSION => Ok(manifest),
            other => Err(wrong(format!("it has version {other}, this program reads {VERSION}"))),
        }
    }

    /// As the file has it.
    pub fn to_json(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("strings and numbers only");
        text.push('\n');
        text
    }
}

/// The inputs that differ between a run's start and now, one sentence each.
pub fn difference(before: &[Digest], now: &[Digest]) -> Vec<String> {
    let mut changes = Vec::new();
    for old in before {
        match now.iter().find(|new| new.role == old.role) {
            Some(new) if new.sha256 == old.sha256 => {}
            Some(new) => changes.push(format!(
                "the {} {} changed: sha256 was {}, is {}",
                old.role, new.path, old.sha256, new.sha256
            )),
            None => changes.push(format!("the {} {} is no longer used", old.role, old.path)),
        }
    }
    for new in now.iter().filter(|new| before.iter().all(|old| old.role != new.role)) {
        changes.push(format!("the {} {} was added", new.role, new.path));
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_the_file_and_both_digests() {
        let digest = |role: &str, sum: &str| Digest {
            role: role.into(),
            path: format!("{role}.file"),
            sha256: sum.into(),
        };
        let before = [digest("html", "aa"), digest("list", "bb"), digest("text", "cc")];
        let now = [digest("html", "aa"), digest("list", "dd"), digest("campaign", "ee")];
        assert_eq!(
            difference(&before, &now),
            [
                "the list list.file changed: sha256 was bb, is dd",
                "the text text.file is no longer used",
                "the campaign campaign.file was added",
            ]
        );
        assert!(difference(&before, &before).is_empty());
    }
}
