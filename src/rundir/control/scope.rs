//! scope — what a command is about: everything, a provider, a source, or one source at one
//! provider.
//!
//! As text: `all`, `google`, `192.0.2.1`, `google@192.0.2.1`. It must not know which providers and
//! sources a run has.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::limits::DOMAIN_MAX;

/// What a command is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The whole run.
    All,
    /// One provider of the rate table, or the site of that name, from all sources.
    Provider(String),
    /// One source, at all providers.
    Source(IpAddr),
    /// One source at one provider.
    Lane(String, IpAddr),
}

impl Scope {
    /// Whether everything in `other` is in this.
    pub fn covers(&self, other: &Scope) -> bool {
        match self {
            Scope::All => true,
            Scope::Provider(_) => self.provider() == other.provider(),
            Scope::Source(_) => self.source() == other.source(),
            Scope::Lane(..) => self == other,
        }
    }

    /// The provider, if it is one.
    pub fn provider(&self) -> Option<&str> {
        match self {
            Scope::Provider(provider) | Scope::Lane(provider, _) => Some(provider),
            Scope::All | Scope::Source(_) => None,
        }
    }

    /// The source, if it is one.
    pub fn source(&self) -> Option<IpAddr> {
        match self {
            Scope::Source(source) | Scope::Lane(_, source) => Some(*source),
            Scope::All | Scope::Provider(_) => None,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scope::All => f.write_str("all"),
            Scope::Provider(provider) => f.write_str(provider),
            Scope::Source(source) => source.fmt(f),
            Scope::Lane(provider, source) => write!(f, "{provider}@{source}"),
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Scope, String> {
        let wrong = || {
            format!(
                "{text:?} is not a scope; write \"all\", a provider such as \"google\", a source \
                 such as \"192.0.2.1\", or both as in \"google@192.0.2.1\""
            )
        };
        // The name of a site is that of its first mail host.
        let provider = |name: &str| {
            let fits = (1..=DOMAIN_MAX).contains(&name.len())
                && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c));
            if fits && name != "all" { Ok(name.to_owned()) } else { Err(wrong()) }
        };
        if text == "all" {
            return Ok(Scope::All);
        }
        if let Ok(source) = text.parse() {
            return Ok(Scope::Source(source));
        }
        match text.split_once('@') {
            None => Ok(Scope::Provider(provider(text)?)),
            Some((name, source)) => {
                Ok(Scope::Lane(provider(name)?, source.parse().map_err(|_| wrong())?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(text: &str) -> Scope {
        text.parse().expect("a scope")
    }

    #[test]
    fn scopes_are_read_as_they_are_written() {
        for text in
            ["all", "google", "mx.example.com", "192.0.2.1", "2001:db8::1", "google@192.0.2.1"]
        {
            assert_eq!(scope(text).to_string(), text);
        }
        for bad in ["", "@", "google@", "@192.0.2.1", "all@192.0.2.1", "a b", "google@a@b", "gö"] {
            assert!(bad.parse::<Scope>().is_err_and(|why| why.contains("scope")), "{bad:?}");
        }
    }

    #[test]
    fn wider_scopes_cover_narrower_ones() {
        let all = "all google yahoo 192.0.2.1 192.0.2.2 google@192.0.2.1 google@192.0.2.2 \
                   yahoo@192.0.2.1";
        for (wide, narrow) in [
            ("all", all),
            ("google", "google google@192.0.2.1 google@192.0.2.2"),
            ("192.0.2.1", "192.0.2.1 google@192.0.2.1 yahoo@192.0.2.1"),
            ("google@192.0.2.1", "google@192.0.2.1"),
        ] {
            let narrow: Vec<&str> = narrow.split(' ').collect();
            for other in all.split(' ') {
                let expected = narrow.contains(&other);
                assert_eq!(scope(wide).covers(&scope(other)), expected, "{wide} {other}");
            }
        }
    }
}
