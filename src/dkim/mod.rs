//! dkim — signs finished messages with one or more keys (RFC 6376, RFC 8463).
//!
//! mail-auth canonicalises (relaxed/relaxed) and writes the header; aws-lc-rs hashes and signs.
//! mail-auth's own signer reads the clock for `t=` and knows no oversigning by presence, so its
//! public parts are put together here with the time as an argument. The body is hashed once for
//! all keys.
//!
//! There is no `l=` (it lets anyone append to the message) and no `x=` (mail that waits in a
//! receiver's queue would fail; replay is limited by `t=` and the receiver's own memory).
//!
//! Loading a key fails with a [`KeyFault`]; signing fails only when the cryptographic library
//! does. This room must not know campaigns, templates, sockets or the clock.

mod fields;
mod key;

pub use key::{Key, KeyFault, generate_ed25519, generate_rsa};

use mail_auth::common::crypto::{HashAlgorithm, SigningKey};
use mail_auth::common::headers::{Writable, Writer};
use mail_auth::dkim::canonicalize::CanonicalHeaders;
use mail_auth::dkim::{Canonicalization, Signature};

use crate::units::Utc;
use fields::Field;

/// Signed once more than they occur, so that nobody can add another one or, where there is none,
/// the first (RFC 6376 §8.15; RFC 8058 §4 for the List headers).
const OVERSIGNED: [&str; 7] =
    ["From", "To", "Subject", "Date", "Reply-To", "List-Unsubscribe", "List-Unsubscribe-Post"];

/// Signed as often as they occur (after RFC 6376 §5.4.1). A forwarder may add those that are
/// missing without breaking the signature.
const SIGNED: [&str; 9] = [
    "Message-ID",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
    "X-Mailshot-Key",
    "Feedback-ID",
    "List-Id",
    "Cc",
    "Sender",
];

/// The keys of a campaign, in the order of their signatures.
#[derive(Debug)]
pub struct Signers(Vec<Key>);

/// The cryptographic library could not sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("signing with {record} is impossible: {why}")]
pub struct SignFault {
    /// The DNS name of the key.
    pub record: String,
    /// What the library says.
    pub why: String,
}

impl Signers {
    /// Signers for these keys; without any, messages stay unsigned.
    pub fn new(keys: Vec<Key>) -> Signers {
        Signers(keys)
    }

    /// The keys.
    pub fn keys(&self) -> &[Key] {
        &self.0
    }

    /// Appends one `DKIM-Signature` header per key to `out`, each line with its CRLF. The message
    /// to send is these headers followed by `message`.
    ///
    /// `now` becomes `t=`; a time before 1970 leaves it out.
    ///
    /// # Errors
    /// [`SignFault`] when the library fails; `out` then holds the signatures made before.
    pub fn sign(&self, message: &[u8], now: Utc, out: &mut Vec<u8>) -> Result<(), SignFault> {
        let (mut fields, body) = fields::split(message);
        fields.retain(|(name, _)| is_one_of(&OVERSIGNED, name) || is_one_of(&SIGNED, name));
        let relaxed = Canonicalization::Relaxed;
        let template = Signature {
            v: 1,
            bh: HashAlgorithm::Sha256.hash(relaxed.canonical_body(body, 0)).as_ref().to_vec(),
            h: signed_names(&fields),
            t: u64::try_from(now.seconds()).unwrap_or(0),
            ch: relaxed,
            cb: relaxed,
            ..Signature::default()
        };
        for key in &self.0 {
            sign_with(key, &template, &fields)?.write(out, true);
        }
        Ok(())
    }
}

fn sign_with(
    key: &Key,
    template: &Signature,
    fields: &[Field<'_>],
) -> Result<Signature, SignFault> {
    let mut signature = Signature {
        a: key.algorithm(),
        d: key.domain().to_owned(),
        s: key.selector().to_owned(),
        ..template.clone()
    };
    let headers = template.ch.canonical_headers(fields.to_vec());
    signature.b = key
        .sign(Signable { headers, signature: &signature })
        .map_err(|fault| SignFault { record: key.dns_name(), why: fault.to_string() })?;
    Ok(signature)
}

/// What is signed: the canonical headers, then the signature's own header without its `b=` value.
struct Signable<'a> {
    headers: CanonicalHeaders<'a>,
    signature: &'a Signature,
}

impl Writable for Signable<'_> {
    fn write(self, writer: &mut impl Writer) {
        self.headers.write(writer);
        self.signature.write(writer, false);
    }
}

/// The names for `h=`: from the last field to the first, as mail-auth canonicalises them and
/// verifiers look them up (RFC 6376 §5.4.2), then those signed once more.
fn signed_names(fields: &[Field<'_>]) -> Vec<String> {
    let present = fields.iter().rev().map(|(name, _)| String::from_utf8_lossy(name).into_owned());
    present.chain(OVERSIGNED.map(str::to_owned)).collect()
}

fn is_one_of(names: &[&str], name: &[u8]) -> bool {
    names.iter().any(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA: &str = include_str!("../../tests/data/dkim/test-only-rsa2048-pkcs8.pem");
    const ED25519: &str = include_str!("../../tests/data/dkim/test-only-ed25519-pkcs8.pem");
    const MESSAGE: &[u8] = b"From: <a@news.example>\r\nTo: <b@example.org>\r\n\
        Subject: Hi\r\nX-Other: not signed\r\nList-Id: <l.example>\r\n\r\nHello\r\n";
    const NOW: Utc = Utc(1_700_000_000_000_000);

    fn key(selector: &str, pem: &str) -> Key {
        Key::from_pem("news.example", selector, pem).expect("a good key")
    }

    fn signatures(message: &[u8], now: Utc) -> String {
        let signers = Signers::new(vec![key("r1", RSA), key("e1", ED25519)]);
        let mut out = Vec::new();
        signers.sign(message, now, &mut out).expect("the library signs");
        String::from_utf8(out).expect("headers are ASCII")
    }

    /// Both signatures were verified with dkimpy when they were written down here.
    const GOLDEN: &str = "\
DKIM-Signature: v=1; a=rsa-sha256; s=r1; d=news.example; c=relaxed/relaxed;
\th=List-Id:Subject:To:From:From:To:Subject:Date:Reply-To:List-Unsubscribe
\t:List-Unsubscribe-Post; t=1700000000; bh=Ba3gj8+xBPQLJTahTfzW6RbWQ/XPgESxkC
\ti2B66PSQg=; b=EEpGw/hGsBhG+7LBTM/abLvzhv/RSlna9Lp8LZH8RW4r6DAK5+ws5WM/2RELS
\tR3uI4WfG5iFiFvblYju4r5d2tAonm6hd/L9nCk9bmk2zZtEU1j/FtxJqIk+daQosuZwhqWlEzTz
\tX3uiiDxZtlNcvOWBlnvShIjC8xgsLq+HCNh5PACLrsurHmZmOgY2VrI6ssAyFwUl0yuxETHlVAM
\tGEVdqlirnjUNS7xzqsUsYjh1J7XeJrqL/Ua+mInCLufEVFGmKdDqZFn8oD4FvQKdQMeMdzqK+Kq
\ttGBioR7yploADomQhPLhebJ3xnwqAlY9poOGy0wNitqQTSACI+HkPk9A==;
DKIM-Signature: v=1; a=ed25519-sha256; s=e1; d=news.example; c=relaxed/relaxed;
\th=List-Id:Subject:To:From:From:To:Subject:Date:Reply-To:List-Unsubscribe
\t:List-Unsubscribe-Post; t=1700000000; bh=Ba3gj8+xBPQLJTahTfzW6RbWQ/XPgESxkC
\ti2B66PSQg=; b=L78JLTUnMSqh2gWBngVkmim+iwaCK7t1af8YXT8zFDFbBXk2RmaFRAw7yPv7k
\thQRJDYU6+W99xDzyrRdBDaxDg==;
";

    #[test]
    fn signatures_are_exactly_these_in_the_order_of_the_keys() {
        assert_eq!(signatures(MESSAGE, NOW), GOLDEN.replace('\n', "\r\n"));
    }

    #[test]
    fn repeated_fields_are_signed_each_time_and_once_more() {
        let message = b"FROM: <a@b>\r\nList-ID: 1\r\nfrom: <c@d>\r\nList-Id: 2\r\n\r\n";
        let (fields, _) = fields::split(message);
        assert_eq!(
            signed_names(&fields).join(":"),
            "List-Id:from:List-ID:FROM:\
             From:To:Subject:Date:Reply-To:List-Unsubscribe:List-Unsubscribe-Post"
        );
    }

    #[test]
    fn without_keys_there_is_no_signature_and_before_1970_no_time() {
        let mut out = b"kept".to_vec();
        assert_eq!(Signers::new(Vec::new()).sign(MESSAGE, NOW, &mut out), Ok(()));
        assert_eq!(out, b"kept");
        assert!(!signatures(MESSAGE, Utc(-1)).contains("t="));
    }
}
