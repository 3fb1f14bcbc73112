//! decode — reads the keys of each section into the campaign, and looks for keys that contradict
//! each other. What says how mail leaves is in `sending.rs`.
//!
//! Every function reads all keys of its section before it gives up on any, so that all problems
//! are found. `None` means that the reader has noted why.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::forms;
use super::reader::Reader;
use super::section::Section;
use super::sending;
use super::{
    Accounting, Addresses, At, Campaign, Content, Dkim, Header, Recipients, Sender, Unsubscribe,
};

/// The whole file.
pub(super) fn campaign<'d>(reader: &mut Reader<'_>, root: &'d DeTable<'d>) -> Option<Campaign> {
    let base = reader.directory();
    let top = reader.top(root);
    let id = reader.read(&top, "id", forms::id);
    let from = sender(reader, &top, "from");
    let reply_to = sender(reader, &top, "reply_to");
    let to_name = reader.template(&top, "to_name");
    let return_path = reader.read(&top, "return_path", forms::return_path);
    let subject = filled(reader, &top, "subject");
    let headers = headers(reader, root);
    let content = content(reader, root, &base);
    let recipients = recipients(reader, root, &base);
    let unsubscribe = unsubscribe(reader, root);
    let dkim = signing(reader, root, &top, from.as_ref(), &base);
    let sending = sending::sending(reader, root, &base);
    let accounting = accounting(reader, root, &base);
    let run = reader.section(root, "run");
    let runs = path(reader, &run, "directory", &base);
    Some(Campaign {
        id: id?,
        from: from?,
        reply_to,
        to_name,
        return_path: return_path?,
        subject: subject?,
        headers,
        content: content?,
        recipients: recipients?,
        unsubscribe,
        dkim,
        delivery: sending.delivery?,
        sources: sending.sources?,
        dns: sending.dns?,
        warmup: sending.warmup?,
        thresholds: sending.thresholds?,
        accounting: accounting?,
        runs: runs?,
    })
}

/// `Name <address>`, the name a template.
fn sender(reader: &mut Reader<'_>, top: &Section<'_>, key: &'static str) -> Option<Sender> {
    let whole = reader.template(top, key)?;
    match forms::named(&whole.value) {
        Ok(named) => {
            let name = named.name.map(|(name, offset)| {
                let mut place = whole.place.clone();
                if place.column > 0 {
                    let before = whole.value[..offset].chars().count();
                    place.column = place.column.saturating_add(u32::try_from(before).unwrap_or(0));
                }
                At { value: name.to_owned(), place }
            });
            Some(Sender { name, mailbox: At { value: named.mailbox, place: whole.place } })
        }
        Err(why) => {
            reader.bad(top, key, whole.place, &why);
            None
        }
    }
}

/// A template that is not empty.
fn filled(reader: &mut Reader<'_>, section: &Section<'_>, key: &'static str) -> Option<At<String>> {
    let template = reader.template(section, key)?;
    checked(reader, section, key, template, |text| forms::filled(text).map(|_| ()))
}

/// The template, if its text as written passes `form`.
fn checked(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &'static str,
    template: At<String>,
    form: impl Fn(&str) -> Result<(), String>,
) -> Option<At<String>> {
    match form(&template.value) {
        Ok(()) => Some(template),
        Err(why) => {
            reader.bad(section, key, template.place, &why);
            None
        }
    }
}

/// A path; relative ones begin at the campaign file's directory.
fn path(
    reader: &mut Reader<'_>,
    section: &Section<'_>,
    key: &'static str,
    base: &Path,
) -> Option<At<PathBuf>> {
    reader.read(section, key, forms::path).map(|text| placed(base, text))
}

/// The path below `base`, unless it is absolute.
pub(super) fn placed(base: &Path, text: At<String>) -> At<PathBuf> {
    // Collecting the components drops "." and double slashes; ".." stays, because what it means
    // depends on symbolic links.
    At { value: base.join(text.value).components().collect(), place: text.place }
}

fn headers<'d>(reader: &mut Reader<'_>, root: &'d DeTable<'d>) -> Vec<Header> {
    let section = reader.section(root, "headers");
    let mut headers: Vec<Header> = Vec::new();
    for (name, template) in reader.entries(&section) {
        if let Err(why) = forms::header_name(&name.value) {
            reader.bad(&section, "*", name.place, &why);
            continue;
        }
        let same = |other: &&Header| other.name.value.eq_ignore_ascii_case(&name.value);
        if let Some(first) = headers.iter().find(same) {
            let what = format!("header {} is already set as {}", name.value, first.name.value);
            reader.problem(name.place, what, "names of headers do not differ by case");
            continue;
        }
        headers.push(Header { name, template });
    }
    headers
}

fn content<'d>(reader: &mut Reader<'_>, root: &'d DeTable<'d>, base: &Path) -> Option<Content> {
    let section = reader.section(root, "content");
    let html = path(reader, &section, "html", base);
    let text = path(reader, &section, "text", base);
    if !section.has("html") && !section.has("text") {
        let what = "there is no content";
        reader.missing(section.place, what, "give html, text or, better, both under [content]");
        return None;
    }
    Some(Content { html, text })
}

fn recipients<'d>(
    reader: &mut Reader<'_>,
    root: &'d DeTable<'d>,
    base: &Path,
) -> Option<Recipients> {
    let section = reader.section(root, "recipients");
    let file = path(reader, &section, "file", base);
    let address = reader.read(&section, "address", forms::filled);
    let delimiter = reader.choice(
        &section,
        "delimiter",
        &[(",", b','), (";", b';'), ("tab", b'\t'), ("|", b'|')],
    );
    let engagement = reader.read(&section, "engagement", forms::filled);
    Some(Recipients { file: file?, address: address?, delimiter, engagement })
}

fn unsubscribe<'d>(reader: &mut Reader<'_>, root: &'d DeTable<'d>) -> Option<Unsubscribe> {
    let section = reader.section(root, "unsubscribe");
    let url = reader
        .template(&section, "url")
        .and_then(|url| checked(reader, &section, "url", url, forms::https));
    let mailto = reader
        .template(&section, "mailto")
        .and_then(|mailto| checked(reader, &section, "mailto", mailto, forms::mailto));
    let one_click = reader.flag(&section, "one_click");
    if section.is_absent() {
        return None;
    }
    if !section.has("url") && !section.has("mailto") {
        let help = "give url, mailto or both, or leave the section out";
        reader.missing(section.place, "[unsubscribe] names no way to unsubscribe", help);
        return None;
    }
    if let Some(At { value: true, place }) = &one_click
        && !section.has("url")
    {
        let help = "give a url, or leave one_click out";
        reader.missing(place.clone(), "one_click needs a url to post to (RFC 8058)", help);
        return None;
    }
    let one_click = one_click.map_or(section.has("url"), |flag| flag.value);
    Some(Unsubscribe { url, mailto, one_click })
}

/// The keys to sign with, against `unsigned` and the sender.
fn signing<'d>(
    reader: &mut Reader<'_>,
    root: &'d DeTable<'d>,
    top: &Section<'d>,
    from: Option<&Sender>,
    base: &Path,
) -> Vec<Dkim> {
    let unsigned = reader.flag(top, "unsigned");
    let sections = reader.sections(root, "dkim");
    let keys: Vec<Dkim> =
        sections.iter().filter_map(|section| dkim(reader, section, base)).collect();
    let is_unsigned = unsigned.as_ref().is_some_and(|flag| flag.value);
    match (is_unsigned, unsigned) {
        (true, Some(flag)) if top.has("dkim") => {
            let help = "leave out unsigned to sign, or [[dkim]] to send without signatures";
            reader.problem(flag.place, "unsigned = true contradicts [[dkim]]", help);
        }
        (true, _) => {}
        (false, _) if !top.has("dkim") => {
            let what = "there is no [[dkim]] key, and unsigned mail to many is refused or filtered";
            let help = "add [[dkim]] with domain, selector and key_file; for tests against a \
                        receiver of your own, say unsigned = true";
            reader.missing(top.place.clone(), what, help);
        }
        (false, _) if keys.len() == sections.len() => {
            repeated_key(reader, &keys);
            alignment(reader, &keys, from);
        }
        (false, _) => {}
    }
    keys
}

fn dkim(reader: &mut Reader<'_>, section: &Section<'_>, base: &Path) -> Option<Dkim> {
    let domain = reader.read(section, "domain", forms::domain);
    let selector = reader.read(section, "selector", forms::selector);
    let key_file = path(reader, section, "key_file", base);
    Some(Dkim { domain: domain?, selector: selector?, key_file: key_file? })
}

/// Two keys under one name: verifiers would find only one of them.
fn repeated_key(reader: &mut Reader<'_>, keys: &[Dkim]) {
    for (at, key) in keys.iter().enumerate() {
        let name = (&key.domain.value, &key.selector.value);
        if keys[..at].iter().any(|other| (&other.domain.value, &other.selector.value) == name) {
            let what = format!("the key {}._domainkey.{} is given twice", name.1, name.0);
            reader.problem(key.selector.place.clone(), what, "give each key a selector of its own");
        }
    }
}

/// DMARC passes by a signature only if its domain aligns with the sender's. In relaxed mode both
/// need the same organizational domain (RFC 7489 §3.1.1); without the public suffix list, a domain
/// and its parents are the ones that are sure to have it.
fn alignment(reader: &mut Reader<'_>, keys: &[Dkim], from: Option<&Sender>) {
    let (Some(from), Some(first)) = (from, keys.first()) else { return };
    let sender = &from.mailbox.value.domain;
    let under = |child: &str, parent: &str| {
        child.strip_suffix(parent).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    let aligned = |key: &Dkim| under(sender, &key.domain.value) || under(&key.domain.value, sender);
    if !keys.iter().any(aligned) {
        let what = format!(
            "no signing domain aligns with the sender's domain {sender:?}, so DMARC would not pass \
             by DKIM (RFC 7489 section 3.1.1)"
        );
        let help = format!("add a [[dkim]] key for {sender} or a parent of it");
        reader.problem(first.domain.place.clone(), what, help);
    }
}

fn accounting<'d>(
    reader: &mut Reader<'_>,
    root: &'d DeTable<'d>,
    base: &Path,
) -> Option<Accounting> {
    let section = reader.section(root, "accounting");
    let directory = path(reader, &section, "directory", base);
    let addresses = reader.choice(
        &section,
        "addresses",
        &[("keep", Addresses::Keep), ("drop", Addresses::Drop)],
    );
    Some(Accounting { directory: directory?, addresses: addresses? })
}
