//! sign — what DKIM costs for a message of 10 KB: with RSA-2048, with Ed25519, with both, and the
//! bare signatures, so that the rest (canonicalisation and SHA-256) is the difference.

mod sample;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use mailshot::dkim::{Key, Signers, generate_ed25519, generate_rsa};
use mailshot::message::build;
use mailshot::units::Utc;

fn main() {
    let mut message = Vec::new();
    build(&sample::Sample::new().letter(), &mut message).expect("a good letter");
    let (rsa, ed25519) = (generate_rsa().expect("a key"), generate_ed25519().expect("a key"));
    let rsa = || Key::from_pem("news.example", "r1", &rsa).expect("a good key");
    let ed25519 = || Key::from_pem("news.example", "e1", &ed25519).expect("a good key");
    let mut out = Vec::new();
    for (what, keys) in [
        ("sign with RSA-2048", vec![rsa()]),
        ("sign with Ed25519", vec![ed25519()]),
        ("sign with both", vec![rsa(), ed25519()]),
        ("sign with nothing (hash and collect)", vec![]),
    ] {
        let signers = Signers::new(keys);
        let now = Utc(1_795_284_252_000_000);
        sample::measure(&format!("{what} ({} octets)", message.len()), || {
            out.clear();
            signers.sign(&message, now, &mut out)
        });
    }
    bare_signatures();
}

fn bare_signatures() {
    let rsa = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
    let ed25519 = Ed25519KeyPair::generate().expect("a key");
    let (data, mut signature) = ([7u8; 1024], [0u8; 256]);
    let random = SystemRandom::new();
    sample::measure("bare RSA-2048 over 1 KB", || {
        rsa.sign(&RSA_PKCS1_SHA256, &random, &data, &mut signature)
    });
    sample::measure("bare Ed25519 over 32 octets", || ed25519.sign(&data[..32]));
}
