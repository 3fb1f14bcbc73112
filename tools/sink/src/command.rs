//! command — one SMTP command line, understood or refused.
//!
//! It is stricter than a real receiver, so that a sloppy sender is noticed: paths stand in angle
//! brackets right after the colon, parameters are those that are known, and octets outside ASCII
//! are refused because SMTPUTF8 is never offered. It must not know the state of the conversation.

/// What the client wants.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command<'a> {
    Ehlo,
    Helo,
    /// `body` if a BODY parameter was given.
    Mail {
        from: &'a [u8],
        size: Option<u64>,
        body: bool,
    },
    Rcpt {
        to: &'a [u8],
    },
    Data,
    Rset,
    Noop,
    Quit,
}

/// Why a line is no command.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Fault {
    /// No command of ours.
    Unknown,
    /// Its arguments are not formed as RFC 5321 §4.1.1 says.
    Arguments,
    /// A path with octets outside ASCII.
    NotAscii,
    /// A parameter of MAIL or RCPT that was not offered.
    Parameter,
}

/// Understands one line without its line end.
pub(crate) fn parse(line: &[u8]) -> Result<Command<'_>, Fault> {
    let verb = line.iter().position(|&octet| octet == b' ').unwrap_or(line.len());
    let (verb, arguments) = line.split_at(verb);
    let arguments = arguments.trim_ascii();
    let bare = |command| if arguments.is_empty() { Ok(command) } else { Err(Fault::Arguments) };
    match &*verb.to_ascii_uppercase() {
        b"EHLO" if !arguments.is_empty() => Ok(Command::Ehlo),
        b"HELO" if !arguments.is_empty() => Ok(Command::Helo),
        b"EHLO" | b"HELO" => Err(Fault::Arguments),
        b"MAIL" => mail(arguments),
        b"RCPT" => rcpt(arguments),
        b"DATA" => bare(Command::Data),
        b"RSET" => bare(Command::Rset),
        b"QUIT" => bare(Command::Quit),
        b"NOOP" => Ok(Command::Noop),
        _ => Err(Fault::Unknown),
    }
}

fn mail(arguments: &[u8]) -> Result<Command<'_>, Fault> {
    let (from, parameters) = path(arguments, b"FROM:")?;
    let (mut size, mut body) = (None, false);
    for parameter in parameters.split(|&octet| octet == b' ').filter(|word| !word.is_empty()) {
        let parameter = parameter.to_ascii_uppercase();
        match &*parameter {
            b"BODY=7BIT" | b"BODY=8BITMIME" => body = true,
            [b'S', b'I', b'Z', b'E', b'=', digits @ ..] => size = Some(number(digits)?),
            _ => return Err(Fault::Parameter),
        }
    }
    Ok(Command::Mail { from, size, body })
}

fn rcpt(arguments: &[u8]) -> Result<Command<'_>, Fault> {
    match path(arguments, b"TO:")? {
        (b"", _) => Err(Fault::Arguments),
        (to, b"") => Ok(Command::Rcpt { to }),
        _ => Err(Fault::Parameter),
    }
}

/// The path without its brackets, and what follows it.
fn path<'a>(arguments: &'a [u8], keyword: &[u8]) -> Result<(&'a [u8], &'a [u8]), Fault> {
    let (start, rest) = arguments.split_at_checked(keyword.len()).ok_or(Fault::Arguments)?;
    let [b'<', rest @ ..] = rest else { return Err(Fault::Arguments) };
    if !start.eq_ignore_ascii_case(keyword) {
        return Err(Fault::Arguments);
    }
    let end = closing_bracket(rest).ok_or(Fault::Arguments)?;
    let (path, parameters) = (&rest[..end], &rest[end + 1..]);
    if !path.is_ascii() {
        return Err(Fault::NotAscii);
    }
    let well_formed = path.is_empty() || path.contains(&b'@');
    let apart = parameters.is_empty() || parameters[0] == b' ';
    if well_formed && apart { Ok((path, parameters.trim_ascii())) } else { Err(Fault::Arguments) }
}

/// The `>` that is not within a quoted local part.
fn closing_bracket(octets: &[u8]) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    octets.iter().position(|&octet| {
        let found = octet == b'>' && !quoted;
        quoted ^= octet == b'"' && !escaped;
        escaped = quoted && octet == b'\\' && !escaped;
        found
    })
}

fn number(digits: &[u8]) -> Result<u64, Fault> {
    let text = std::str::from_utf8(digits).map_err(|_| Fault::Arguments)?;
    text.parse().map_err(|_| Fault::Arguments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_understood() {
        let mail = |from, size| Ok(Command::Mail { from, size, body: false });
        let with_body = Ok(Command::Mail { from: b"a@b", size: Some(7), body: true });
        let rcpt = |to| Ok(Command::Rcpt { to });
        let cases: [(&str, Result<Command, Fault>); 27] = [
            ("EHLO out.example.test", Ok(Command::Ehlo)),
            ("helo x", Ok(Command::Helo)),
            ("EHLO", Err(Fault::Arguments)),
            ("MAIL FROM:<a@b.test>", mail(b"a@b.test", None)),
            ("mail from:<> SIZE=10", mail(b"", Some(10))),
            ("MAIL FROM:<a@b> BODY=8BITMIME SIZE=7", with_body),
            ("MAIL FROM:<a@b> SIZE=x", Err(Fault::Arguments)),
            ("MAIL FROM:<a@b> RET=HDRS", Err(Fault::Parameter)),
            ("MAIL FROM: <a@b>", Err(Fault::Arguments)),
            ("MAIL FROM:<a@b", Err(Fault::Arguments)),
            ("MAIL FROM:<a@b>SIZE=7", Err(Fault::Arguments)),
            ("MAIL FROM:<nobody>", Err(Fault::Arguments)),
            ("MAIL FROM:<ü@b>", Err(Fault::NotAscii)),
            ("MAIL", Err(Fault::Arguments)),
            ("RCPT TO:<a@b>", rcpt(b"a@b")),
            ("RCPT TO:<\"a>b\"@c>", rcpt(b"\"a>b\"@c")),
            ("RCPT TO:<\"a\\\">b\"@c>", rcpt(b"\"a\\\">b\"@c")),
            ("RCPT TO:<>", Err(Fault::Arguments)),
            ("RCPT TO:<a@b> NOTIFY=NEVER", Err(Fault::Parameter)),
            ("RCPT FROM:<a@b>", Err(Fault::Arguments)),
            ("DATA", Ok(Command::Data)),
            ("DATA ", Ok(Command::Data)),
            ("DATA now", Err(Fault::Arguments)),
            ("rset", Ok(Command::Rset)),
            ("NOOP anything", Ok(Command::Noop)),
            ("QUIT", Ok(Command::Quit)),
            ("BDAT 10 LAST", Err(Fault::Unknown)),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(line.as_bytes()), expected, "{line}");
        }
    }
}
