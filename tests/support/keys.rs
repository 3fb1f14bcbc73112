//! keys — DKIM keys of the tests: files for the signer, TXT records for the verifiers.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::process::succeed;

/// The signing domain of the tests.
pub(crate) const DOMAIN: &str = "news.example";

/// How long openssl may take; RSA-2048 keys take a second at worst.
const OPENSSL: Duration = Duration::from_secs(60);

/// Octets of the fixed head of an Ed25519 public key in SubjectPublicKeyInfo form (RFC 8410 §4),
/// in base64: 12 octets. What follows is the raw key that RFC 8463 wants.
const ED25519_HEAD: usize = 16;

/// An RSA-2048 and an Ed25519 key in one folder: `rsa.pem`, `ed25519.pem` (PKCS #8, mode 600), and
/// `keys.json` with their TXT records, selectors `rsa` and `ed`.
pub(crate) struct Keys {
    folder: PathBuf,
}

impl Keys {
    /// Makes both keys below `folder`, which must exist.
    pub(crate) fn make(folder: &Path) -> Keys {
        let rsa = make(&folder.join("rsa.pem"), &["RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
        let ed25519 = make(&folder.join("ed25519.pem"), &["ED25519"]);
        let records = serde_json::json!({
            (format!("rsa._domainkey.{DOMAIN}")): format!("v=DKIM1; k=rsa; p={rsa}"),
            (format!("ed._domainkey.{DOMAIN}")):
                format!("v=DKIM1; k=ed25519; p={}", &ed25519[ED25519_HEAD..]),
        });
        std::fs::write(folder.join("keys.json"), records.to_string()).expect("folder is writable");
        Keys { folder: folder.to_owned() }
    }

    /// The folder with all three files.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Private key, PKCS #8 PEM; selector `rsa`.
    pub(crate) fn rsa(&self) -> PathBuf {
        self.folder.join("rsa.pem")
    }

    /// Private key, PKCS #8 PEM; selector `ed`.
    pub(crate) fn ed25519(&self) -> PathBuf {
        self.folder.join("ed25519.pem")
    }

    /// `selector._domainkey.domain` to TXT record, as the verifiers read it.
    pub(crate) fn records(&self) -> PathBuf {
        self.folder.join("keys.json")
    }
}

/// Writes a new private key and returns its public half: SubjectPublicKeyInfo in base64.
fn make(file: &Path, algorithm: &[&str]) -> String {
    let mut generate = Command::new("openssl");
    generate.args(["genpkey", "-quiet", "-out"]).arg(file).arg("-algorithm").args(algorithm);
    succeed(&mut generate, OPENSSL);
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))
        .expect("our own file can be restricted");
    let public =
        succeed(Command::new("openssl").args(["pkey", "-pubout", "-in"]).arg(file), OPENSSL);
    public.lines().filter(|line| !line.starts_with('-')).collect()
}
