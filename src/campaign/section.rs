//! section — one section of the file as the decoder sees it: its name, its place and its keys.
//!
//! A section may be absent, or something else may stand in its place; both are answers here and
//! problems, if at all, in `reader.rs`.

use toml::de::DeTable;

use crate::problem::{Place, suggest};

use super::keys;

/// One section of the file.
pub(super) struct Section<'d> {
    /// Its name, empty at the top.
    pub(super) name: &'static str,
    /// Where its header stands; the file as a whole when it is absent.
    pub(super) place: Place,
    /// What stands there.
    pub(super) body: Body<'d>,
}

/// What stands in the place of a section.
pub(super) enum Body<'d> {
    /// Its keys.
    Present(&'d DeTable<'d>),
    /// Nothing.
    Absent,
    /// Something that is no table, or a misspelt name; that has been noted.
    Unreadable,
}

impl Section<'_> {
    pub(super) fn is_absent(&self) -> bool {
        matches!(self.body, Body::Absent)
    }

    /// Whether the key stands there, be it misspelt or of the wrong type; in what is unreadable
    /// anything may stand.
    pub(super) fn has(&self, name: &str) -> bool {
        match self.body {
            Body::Present(table) => table.contains_key(name) || misspells(self.name, table, name),
            Body::Absent => false,
            Body::Unreadable => true,
        }
    }

    /// Whether a missing key was probably written in another way.
    pub(super) fn misspells(&self, name: &str) -> bool {
        matches!(self.body, Body::Present(table) if misspells(self.name, table, name))
    }
}

/// Whether the table has an unknown key that was probably meant to be this one: that is one
/// mistake, noted as an unknown key.
pub(super) fn misspells(section: &str, table: &DeTable<'_>, name: &str) -> bool {
    let names = keys::names_in(section);
    let mut unknown = table.keys().map(|key| &**key.get_ref()).filter(|key| !names.contains(key));
    unknown.any(|key| suggest(key, names.iter().copied()) == Some(name))
}
