//! key — a DKIM private key: read once from a file that nobody else may read, never shown.
//!
//! Accepted are PEM files with an RSA key (PKCS#1 or PKCS#8, 2048 to 8192 bits) or an Ed25519 key
//! (PKCS#8), and a file with nothing but the base64 of an Ed25519 seed. The file's octets are
//! overwritten after parsing; aws-lc overwrites its own copy when the key is dropped.
//!
//! It fails with a [`KeyFault`], which names the file and what to do. It never shows key
//! material, and it must not know what is signed.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::error::{KeyRejected, Unspecified};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use encodify::{base64, pem};
use mail_auth::common::crypto::{
    Algorithm, CryptoError, HashContext, HashImpl, Sha256, SigningKey,
};
use mail_auth::common::headers::Writable;
use zeroize::Zeroizing;

use crate::limits::{DOMAIN_MAX, LABEL_MAX};

/// Octets of a key file. An RSA-8192 key in PEM has 6.4 KB; the rest is room for comments.
const FILE_MAX: u64 = 64 << 10;
/// Octets of an Ed25519 seed (RFC 8032 §5.1.5).
const SEED: usize = 32;
/// The DER of the object identifiers rsaEncryption (RFC 8017 §A.1) and id-Ed25519 (RFC 8410 §3).
const OID_RSA: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
const OID_ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";

/// A private key with the domain it signs for.
pub struct Key {
    domain: String,
    selector: String,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Why a key cannot be used. `path` is the key file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFault {
    /// The file cannot be read.
    #[error("key {} cannot be read: {why}", path.display())]
    Unreadable {
        /// The key file.
        path: PathBuf,
        /// What the system says.
        why: std::io::Error,
    },
    /// Others than the owner may read the file.
    #[error(
        "key {} may be read by others (mode {mode:04o}); run: chmod 600 {}",
        path.display(), path.display()
    )]
    Exposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key is protected by a passphrase.
    #[error(
        "key {} is encrypted, and a run has nobody to ask for a passphrase; \
         write it in the clear with: openssl pkey -in {} -out NEW, then chmod 600 NEW",
        path.display(), path.display()
    )]
    Encrypted {
        /// The key file.
        path: PathBuf,
    },
    /// The file holds a public key or a certificate.
    #[error(
        "{} holds a public key; name the file with the private key it was made from",
        path.display()
    )]
    Public {
        /// The key file.
        path: PathBuf,
    },
    /// The key is neither RSA nor Ed25519.
    #[error(
        "key {} is of type {found}; DKIM signs with RSA and Ed25519 only, \
         make one with: openssl genrsa -out NEW 2048",
        path.display()
    )]
    WrongType {
        /// The key file.
        path: PathBuf,
        /// What it says it is.
        found: String,
    },
    /// The RSA key is too short.
    #[error(
        "key {} is an RSA key below 2048 bits: RFC 8301 wants 2048 from signers (verifiers ignore \
         keys below 1024), and the cryptographic library signs with nothing shorter; \
         make one with: openssl genrsa -out NEW 2048",
        path.display()
    )]
    Short {
        /// The key file.
        path: PathBuf,
    },
    /// The file holds no key in a form known here.
    #[error(
        "{} holds no private key ({why}); it should be PEM, as written by openssl, \
         or the base64 of an Ed25519 seed of 32 octets",
        path.display()
    )]
    NotAKey {
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The domain or the selector cannot be part of a DNS name.
    #[error(
        "{name:?} is no DNS name; selector and domain are labels of letters, digits, - and _ \
         joined by dots"
    )]
    Name {
        /// The name as given.
        name: String,
    },
    /// No key could be made.
    #[error("the cryptographic library could not generate a key")]
    Generate,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.algorithm().name();
        write!(f, "Key({kind}, {})", self.dns_name())
    }
}

impl Key {
    /// Reads the private key at `path` that signs for `domain` under `selector`.
    ///
    /// # Errors
    /// A [`KeyFault`] that says what to do.
    pub fn load(domain: &str, selector: &str, path: &Path) -> Result<Key, KeyFault> {
        let unreadable = |why| KeyFault::Unreadable { path: path.to_owned(), why };
        let file = File::open(path).map_err(unreadable)?;
        let about = file.metadata().map_err(unreadable)?;
        let mode = about.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 && about.is_file() {
            return Err(KeyFault::Exposed { path: path.to_owned(), mode });
        }
        if !about.is_file() || about.len() > FILE_MAX {
            let why = "not a file of at most 64 KiB".to_owned();
            return Err(KeyFault::NotAKey { path: path.to_owned(), why });
        }
        // The whole size at once: a buffer that grows leaves copies behind.
        let mut text = Zeroizing::new(Vec::with_capacity(FILE_MAX as usize + 1));
        file.take(FILE_MAX).read_to_end(&mut text).map_err(unreadable)?;
        Key::parse(domain, selector, &text, path)
    }

    /// The key in `pem`, as the `generate` functions return it.
    ///
    /// # Errors
    /// A [`KeyFault`] whose path is `in memory`.
    pub fn from_pem(domain: &str, selector: &str, pem: &str) -> Result<Key, KeyFault> {
        Key::parse(domain, selector, pem.as_bytes(), Path::new("in memory"))
    }

    fn parse(domain: &str, selector: &str, text: &[u8], path: &Path) -> Result<Key, KeyFault> {
        for name in [domain, selector] {
            if !is_dns_name(name) {
                return Err(KeyFault::Name { name: name.to_owned() });
            }
        }
        let pair = Source { text, path }.pair()?;
        Ok(Key { domain: domain.to_owned(), selector: selector.to_owned(), pair })
    }

    /// The signing domain, `d=`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The selector, `s=`.
    pub fn selector(&self) -> &str {
        &self.selector
    }

    /// Where the public key is published (RFC 6376 §3.6.2.1).
    pub fn dns_name(&self) -> String {
        format!("{}._domainkey.{}", self.selector, self.domain)
    }

    /// The TXT record to publish there (RFC 6376 §3.6.1, RFC 8463 §4.2). A zone file needs values
    /// above 255 octets, as RSA keys have, in several strings.
    pub fn public_record(&self) -> String {
        let encode = |octets: &[u8]| base64::STANDARD.encode(octets);
        match &self.pair {
            Pair::Rsa(pair) => {
                let der: PublicKeyX509Der<'_> =
                    pair.public_key().as_der().expect("an RSA key that was parsed can be written");
                format!("v=DKIM1; k=rsa; p={}", encode(der.as_ref()))
            }
            Pair::Ed25519(pair) => {
                format!("v=DKIM1; k=ed25519; p={}", encode(pair.public_key().as_ref()))
            }
        }
    }
}

/// Labels of letters, digits, `-` and `_`, joined by dots.
fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=LABEL_MAX).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
    };
    name.len() <= DOMAIN_MAX && name.split('.').all(is_label)
}

/// The octets of a key file, and its name for complaints.
struct Source<'a> {
    text: &'a [u8],
    path: &'a Path,
}

impl Source<'_> {
    fn pair(&self) -> Result<Pair, KeyFault> {
        let mut other: Option<String> = None;
        for block in pem::STANDARD.blocks(self.text) {
            let block = block.map_err(|why| self.no_key(&why.to_string()))?;
            let (label, headers) = (block.label.to_owned(), block.headers.to_vec());
            let der = Zeroizing::new(block.contents);
            match label.as_str() {
                "ENCRYPTED PRIVATE KEY" => return Err(self.encrypted()),
                "RSA PRIVATE KEY" if contains(&headers, b"ENCRYPTED") => {
                    return Err(self.encrypted());
                }
                "RSA PRIVATE KEY" => return self.rsa(RsaKeyPair::from_der(&der)),
                "PRIVATE KEY" => return self.pkcs8(&der),
                _ => other = other.or(Some(label)),
            }
        }
        match other {
            None => self.seed(),
            Some(label) if label.ends_with("PUBLIC KEY") || label == "CERTIFICATE" => {
                Err(KeyFault::Public { path: self.path.to_owned() })
            }
            Some(found) => Err(KeyFault::WrongType { path: self.path.to_owned(), found }),
        }
    }

    fn pkcs8(&self, der: &[u8]) -> Result<Pair, KeyFault> {
        // The algorithm comes right after the version, within the first 32 octets.
        let head = &der[..der.len().min(32)];
        if contains(head, OID_RSA) {
            self.rsa(RsaKeyPair::from_pkcs8(der))
        } else if contains(head, OID_ED25519) {
            Ed25519KeyPair::from_pkcs8(der)
                .map(Pair::Ed25519)
                .map_err(|why| self.no_key(&why.to_string()))
        } else {
            let found = "PKCS#8 with another algorithm".to_owned();
            Err(KeyFault::WrongType { path: self.path.to_owned(), found })
        }
    }

    fn rsa(&self, parsed: Result<RsaKeyPair, KeyRejected>) -> Result<Pair, KeyFault> {
        parsed.map(Pair::Rsa).map_err(|why| match why.to_string().as_str() {
            "TooSmall" => KeyFault::Short { path: self.path.to_owned() },
            other => self.no_key(other),
        })
    }

    /// A file without PEM: the base64 of an Ed25519 seed, or no key.
    fn seed(&self) -> Result<Pair, KeyFault> {
        let mut seed = Zeroizing::new([0u8; SEED]);
        match base64::STANDARD.decode_slice(self.text.trim_ascii(), &mut *seed) {
            Ok(SEED) => Ed25519KeyPair::from_seed_unchecked(&*seed)
                .map(Pair::Ed25519)
                .map_err(|why| self.no_key(&why.to_string())),
            _ => Err(self.no_key("neither PEM nor a seed")),
        }
    }

    fn no_key(&self, why: &str) -> KeyFault {
        KeyFault::NotAKey { path: self.path.to_owned(), why: why.to_owned() }
    }

    fn encrypted(&self) -> KeyFault {
        KeyFault::Encrypted { path: self.path.to_owned() }
    }
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    memchr::memmem::find(haystack, needle).is_some()
}

impl SigningKey for Key {
    type Hasher = Sha256;

    /// RSASSA-PKCS1-v1_5 over the data (RFC 6376 §3.3.1), or PureEdDSA over its SHA-256
    /// (RFC 8463 §3).
    fn sign(&self, input: impl Writable) -> mail_auth::Result<Vec<u8>> {
        match &self.pair {
            Pair::Rsa(pair) => {
                let mut data = Vec::with_capacity(2048);
                input.write(&mut data);
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), &data, &mut signature)
                    .map_err(unsigned)?;
                Ok(signature)
            }
            Pair::Ed25519(pair) => {
                let mut hasher = Sha256::hasher();
                input.write(&mut hasher);
                let signature = pair.try_sign(hasher.complete().as_ref()).map_err(unsigned)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }

    fn algorithm(&self) -> Algorithm {
        match self.pair {
            Pair::Rsa(_) => Algorithm::RsaSha256,
            Pair::Ed25519(_) => Algorithm::Ed25519Sha256,
        }
    }
}

fn unsigned(why: Unspecified) -> mail_auth::Error {
    mail_auth::Error::Crypto(CryptoError::Library(why.to_string()))
}

/// A new RSA-2048 key as PKCS#8 PEM. Write it to a file of mode 600.
///
/// 2048 because it is the longest that every receiver verifies (RFC 8301 §3.2) and each bit more
/// slows every message.
///
/// # Errors
/// [`KeyFault::Generate`].
pub fn generate_rsa() -> Result<Zeroizing<String>, KeyFault> {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| KeyFault::Generate)?;
    let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| KeyFault::Generate)?;
    Ok(Zeroizing::new(pem::STANDARD.encode("PRIVATE KEY", der.as_ref())))
}

/// A new Ed25519 key as PKCS#8 PEM, in version 1, which OpenSSL reads too. Write it to a file of
/// mode 600.
///
/// # Errors
/// [`KeyFault::Generate`].
pub fn generate_ed25519() -> Result<Zeroizing<String>, KeyFault> {
    let pkcs8 =
        Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).map_err(|_| KeyFault::Generate)?;
    Ok(Zeroizing::new(pem::STANDARD.encode("PRIVATE KEY", pkcs8.as_ref())))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    macro_rules! test_key {
        ($name:literal) => {
            include_str!(concat!("../../tests/data/dkim/test-only-", $name, ".pem"))
        };
    }

    /// Loads `text` from a file of this mode.
    fn loaded(text: &str, mode: u32) -> Result<Key, KeyFault> {
        let dir = tempfile::tempdir().expect("a directory for the test");
        let path = dir.path().join("key.pem");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
        Key::load("news.example", "s1", &path)
    }

    fn complaint(text: &str) -> String {
        match loaded(text, 0o600) {
            Ok(key) => panic!("{key:?} was accepted"),
            Err(fault) => fault.to_string(),
        }
    }

    #[test]
    fn the_usual_forms_of_a_key_are_read() {
        let pkcs8 = loaded(test_key!("rsa2048-pkcs8"), 0o600).expect("good");
        let pkcs1 = loaded(test_key!("rsa2048-pkcs1"), 0o400).expect("good");
        assert_eq!(format!("{pkcs8:?}"), "Key(rsa-sha256, s1._domainkey.news.example)");
        assert_eq!(pkcs8.public_record(), pkcs1.public_record());
        let public: String = test_key!("public").lines().filter(|l| !l.starts_with('-')).collect();
        assert_eq!(pkcs8.public_record(), format!("v=DKIM1; k=rsa; p={public}"));
        let ed25519 = loaded(test_key!("ed25519-pkcs8"), 0o600).expect("good");
        assert_eq!(format!("{ed25519:?}"), "Key(ed25519-sha256, s1._domainkey.news.example)");
    }

    /// The key pair of RFC 8463 appendix A.2.
    #[test]
    fn a_bare_seed_is_an_ed25519_key() {
        let key = loaded("\nnWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=\n", 0o600).expect("good");
        assert_eq!(
            key.public_record(),
            "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
        );
    }

    #[test]
    fn each_wrong_file_has_its_own_complaint() {
        for (text, expected) in [
            (test_key!("rsa1024"), "is an RSA key below 2048 bits"),
            (test_key!("encrypted-pkcs1"), "is encrypted"),
            (test_key!("encrypted-pkcs8"), "is encrypted"),
            (test_key!("public"), "holds a public key"),
            (test_key!("ec"), "is of type EC PARAMETERS"),
            (test_key!("ec-pkcs8"), "is of type PKCS#8 with another algorithm"),
            ("", "neither PEM nor a seed"),
            ("nWGxne/9WmC6hEr0kuwsxA==", "neither PEM nor a seed"),
            ("-----BEGIN PRIVATE KEY-----\nAAAA\n", "holds no private key"),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
                "holds no private key",
            ),
        ] {
            let complaint = complaint(text);
            assert!(complaint.contains(expected), "{complaint}");
            assert!(complaint.contains("key.pem"), "{complaint}");
        }
    }

    #[test]
    fn a_key_that_others_may_read_is_refused() {
        for mode in [0o640, 0o604, 0o660, 0o610] {
            let fault = loaded(test_key!("rsa2048-pkcs8"), mode).expect_err("exposed").to_string();
            assert!(fault.contains(&format!("(mode {mode:04o}); run: chmod 600 ")), "{fault}");
        }
    }

    #[test]
    fn what_is_not_a_small_file_is_refused() {
        let missing = Key::load("d.example", "s", Path::new("no/such/key.pem"));
        assert!(matches!(missing, Err(KeyFault::Unreadable { .. })));
        let directory = Key::load("d.example", "s", Path::new(env!("CARGO_MANIFEST_DIR")));
        assert!(matches!(directory, Err(KeyFault::NotAKey { .. })));
        assert!(complaint(&"#".repeat(FILE_MAX as usize + 1)).contains("at most 64 KiB"));
    }

    #[test]
    fn names_that_would_change_the_signature_are_refused() {
        let pem = test_key!("ed25519-pkcs8");
        for bad in ["", "a..b", "a;b", "a b", "a\r\nb", "ü", &"a".repeat(64)] {
            for (domain, selector) in [(bad, "s"), ("d.example", bad)] {
                let result = Key::from_pem(domain, selector, pem);
                assert!(matches!(result, Err(KeyFault::Name { name }) if name == bad), "{bad:?}");
            }
        }
    }

    #[test]
    fn generated_keys_are_read_back() {
        let rsa = generate_rsa().expect("generates");
        let key = loaded(&rsa, 0o600).expect("its own PEM");
        assert_eq!(key.algorithm(), Algorithm::RsaSha256);
        let ed25519 = generate_ed25519().expect("generates");
        assert!(ed25519.starts_with("-----BEGIN PRIVATE KEY-----\nMC4CAQAw"), "version 1");
        let key = loaded(&ed25519, 0o600).expect("its own PEM");
        assert_eq!(key.algorithm(), Algorithm::Ed25519Sha256);
    }
}
