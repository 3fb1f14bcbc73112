//! recipient — a stand-in for an address: the same for the same person under one key, and of no use
//! to anyone without the key. Today every run has a key of its own, in its manifest.
//!
//! An unkeyed hash of an address is undone by hashing a list of known addresses; HMAC-SHA256
//! (RFC 2104) is not, as long as the key stays where it is. Nothing here can fail. It does not
//! know where the key comes from.

use std::fmt;

use aws_lc_rs::hmac;

/// Octets kept of the 32: 128 bits make two equal hashes among 2^40 addresses a 2^-49 chance.
const HASH_OCTETS: usize = 16;

/// Makes the `rcpt_hash` of addresses.
pub struct RcptHasher {
    key: hmac::Key,
}

impl RcptHasher {
    /// A hasher with this key; whoever compares runs must give the same key to all of them.
    pub fn new(key: [u8; 32]) -> RcptHasher {
        RcptHasher { key: hmac::Key::new(hmac::HMAC_SHA256, &key) }
    }

    /// The hash of a recipient's deduplication key: the first half of the HMAC in lower-case hex.
    pub fn hash(&self, dedup_key: &[u8]) -> RcptHash {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let tag = hmac::sign(&self.key, dedup_key);
        let mut hex = [0; 2 * HASH_OCTETS];
        for (pair, octet) in hex.chunks_exact_mut(2).zip(tag.as_ref()) {
            pair[0] = DIGITS[usize::from(octet >> 4)];
            pair[1] = DIGITS[usize::from(octet & 15)];
        }
        RcptHash(hex)
    }
}

impl fmt::Debug for RcptHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RcptHasher(key withheld)")
    }
}

/// 32 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RcptHash([u8; 2 * HASH_OCTETS]);

impl RcptHash {
    /// The digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("hex digits are ASCII")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_first_half_of_the_hmac() {
        // RFC 4231 §4.2 and §4.3 pad their keys with zeros to the block size, as HMAC does itself.
        let mut key = [0; 32];
        key[..20].copy_from_slice(&[0x0b; 20]);
        let first = RcptHasher::new(key).hash(b"Hi There");
        assert_eq!(first.as_str(), "b0344c61d8db38535ca8afceaf0bf12b");
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let second = RcptHasher::new(key).hash(b"what do ya want for nothing?");
        assert_eq!(second.as_str(), "5bdcc146bf60754e6a042426089575c7");
    }

    #[test]
    fn the_key_is_not_shown() {
        assert_eq!(format!("{:?}", RcptHasher::new([7; 32])), "RcptHasher(key withheld)");
    }
}
