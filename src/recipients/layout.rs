//! layout — how a list is written: delimiter, columns, which of them is the address, where data
//! begin.
//!
//! Everything is told from the first octets of the file. What is not CSV in UTF-8 is refused with
//! the cure (UTF-16, spreadsheets, compressed files). The delimiter is found on the header, unless
//! it is given. All [`Problem`]s of a header are reported at once. Rows are not looked at.

use std::collections::HashMap;

use super::record::{BOM, Lines, Parser, field_starts};
use crate::limits::{COLUMNS_MAX, ROW_BYTES_MAX};
use crate::problem::{Place, Problem, suggest};

/// Octets of the file that [`Layout::read`] wants, if there are so many: one row at its longest.
pub const HEAD_OCTETS: usize = ROW_BYTES_MAX;

/// The delimiters that are recognised, the likelier ones first.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// Column names listed in a message; wider tables would fill the screen.
const NAMES_SHOWN: usize = 30;
/// Characters of such a name; longer ones come of a wrong delimiter.
const NAME_SHOWN: usize = 60;

/// What the campaign says about the list.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The delimiter, `None` to detect it.
    pub delimiter: Option<u8>,
    /// The name of the column with the addresses, exactly as in the header.
    pub address_column: &'a str,
    /// The name of the column that tells how engaged a recipient is, if there is one.
    pub engagement_column: Option<&'a str>,
}

/// How a list is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The octet between fields.
    pub delimiter: u8,
    /// The names in the header, trimmed; unique and not empty.
    pub columns: Vec<String>,
    /// Which column holds the address.
    pub address: usize,
    /// Which column tells how engaged a recipient is.
    pub engagement: Option<usize>,
    /// Offset of the first octet after the header's line end.
    pub data: u64,
    /// The physical line on which that octet stands, from 1.
    pub first_line: u32,
}

impl Layout {
    /// Reads the layout from `head`, the first [`HEAD_OCTETS`] of the file or all of a shorter one.
    ///
    /// # Errors
    /// Everything that is wrong with the header, each with its place in `file_name`.
    pub fn read(file_name: &str, head: &[u8], options: &Options) -> Result<Layout, Vec<Problem>> {
        refuse_foreign(file_name, head)?;
        let (start, hint) = data_start(head);
        let delimiter = options
            .delimiter
            .or(hint)
            .unwrap_or_else(|| likeliest_delimiter(&head[start..], options.address_column));
        Header::read(file_name, head, start, delimiter)?.checked(file_name, options)
    }

    /// The index of the column called `name`.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column == name)
    }
}

/// Refuses what is no CSV text in UTF-8 at all.
fn refuse_foreign(file_name: &str, head: &[u8]) -> Result<(), Vec<Problem>> {
    let (what, help) = if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        ("the list is written in UTF-16", "save it as \"CSV UTF-8\"")
    } else if head.starts_with(b"PK\x03\x04") || head.starts_with(b"\xd0\xcf\x11\xe0") {
        ("the list is a spreadsheet, not a CSV file", "export it as \"CSV UTF-8\"")
    } else if head.starts_with(b"\x1f\x8b") || head.starts_with(b"\x28\xb5\x2f\xfd") {
        ("the list is compressed", "decompress it first")
    } else if head.iter().all(|octet| octet.is_ascii_whitespace()) || head == BOM {
        ("the list is empty", "its first line must name the columns")
    } else if head.iter().take_while(|octet| **octet != b'\n').any(|octet| *octet == 0) {
        ("the header contains NUL octets, as UTF-16 does", "save the list as \"CSV UTF-8\"")
    } else {
        return Ok(());
    };
    Err(vec![Problem::new(Place::whole(file_name), what, help)])
}

/// Where the header starts, and the delimiter that a leading `sep=` line names.
///
/// Spreadsheets write and read that line (`sep=;`); it is no part of the table.
fn data_start(head: &[u8]) -> (usize, Option<u8>) {
    let bom = if head.starts_with(BOM) { BOM.len() } else { 0 };
    let blank =
        |from: usize| head[from..].iter().take_while(|o| matches!(o, b'\r' | b'\n')).count();
    let start = bom + blank(bom);
    match &head[start..] {
        [s, e, p, b'=', delimiter, b'\r' | b'\n', ..]
            if [*s, *e, *p].eq_ignore_ascii_case(b"sep") && sound_delimiter(*delimiter) =>
        {
            (start + 5 + blank(start + 5), Some(*delimiter))
        }
        _ => (start, None),
    }
}

/// The delimiter under which the header has the address column; of several, or if there is none,
/// the one that makes the most columns.
fn likeliest_delimiter(header: &[u8], address_column: &str) -> u8 {
    let worth = |delimiter: &u8| {
        let mut parser = Parser::new(*delimiter, COLUMNS_MAX);
        if parser.parse(header, true).is_none() {
            return (false, 0);
        }
        let count = parser.count().unwrap_or(usize::MAX);
        let found = (0..count).map_while(|at| parser.field(at)).any(|n| name(n) == address_column);
        (found, count)
    };
    // The last of equals wins a maximum, hence the reversal.
    DELIMITERS.into_iter().rev().max_by_key(worth).unwrap_or(b',')
}

/// Whether an octet can stand between fields.
fn sound_delimiter(octet: u8) -> bool {
    octet.is_ascii() && !matches!(octet, b'"' | b'\r' | b'\n' | 0)
}

/// The header as one delimiter makes it.
struct Header {
    delimiter: u8,
    /// Trimmed.
    names: Vec<String>,
    /// Where each name stands.
    places: Vec<Place>,
    /// Offset in the file of the octet after the header's line end.
    end: usize,
    /// The line on which that octet stands.
    next_line: u32,
}

impl Header {
    fn read(
        file_name: &str,
        head: &[u8],
        start: usize,
        delimiter: u8,
    ) -> Result<Header, Vec<Problem>> {
        let mut lines = Lines { line: 1, after_cr: false };
        lines.pass(&head[..start]);
        let place = Place { file: file_name.to_owned(), line: lines.line, column: 0 };
        let wrong = |what: &str, help: &str| vec![Problem::new(place.clone(), what, help)];
        if !sound_delimiter(delimiter) {
            return Err(wrong(
                &format!("{:?} cannot be a delimiter", char::from(delimiter)),
                "use one ASCII character other than the double quote",
            ));
        }
        let mut parser = Parser::new(delimiter, COLUMNS_MAX);
        let whole_file = head.len() < HEAD_OCTETS;
        let length = parser.parse(&head[start..], whole_file).ok_or_else(|| {
            wrong("the header exceeds 1 MiB", "look for a quote that is not closed")
        })?;
        let raw = &head[start..start + length];
        let count = parser.count().filter(|count| *count <= COLUMNS_MAX).ok_or_else(|| {
            wrong(&format!("the header has more than {COLUMNS_MAX} columns"), "name the delimiter")
        })?;
        let text = std::str::from_utf8(raw)
            .map_err(|_| wrong("the header is not UTF-8", "save the list as \"CSV UTF-8\""))?;
        let starts = field_starts(raw, delimiter)
            .map_err(|_| wrong("a quote in the header is not closed or is followed by text", ""))?;
        let places = starts.iter().map(|at| shifted(Place::of(file_name, text, *at), &place));
        let names = (0..count).filter_map(|at| parser.field(at)).map(name).collect();
        let line_end =
            usize::from(raw.ends_with(b"\r") && head[start + length..].starts_with(b"\n"));
        let end = start + length + line_end;
        lines.pass(&head[start..end]);
        Ok(Header { delimiter, names, places: places.collect(), end, next_line: lines.line })
    }

    /// The layout, if the names are unique, not empty, and the wanted ones are among them.
    fn checked(self, file_name: &str, options: &Options) -> Result<Layout, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut first: HashMap<&str, usize> = HashMap::new();
        for (at, name) in self.names.iter().enumerate() {
            let place = || self.places[at].clone();
            if name.is_empty() {
                let what = format!("column {} has no name", at + 1);
                problems.push(Problem::new(place(), what, "name it, or remove it from the list"));
            } else if let Some(earlier) = first.insert(name, at) {
                first.insert(name, earlier);
                let what = format!("the name {name:?} is that of column {} already", earlier + 1);
                problems.push(Problem::new(place(), what, "rename one of the two"));
            }
        }
        let mut wanted = |what, wanted| {
            let at = self.names.iter().position(|name| name == wanted);
            if at.is_none() {
                problems.insert(0, self.missing(file_name, what, wanted));
            }
            at
        };
        let engagement = options.engagement_column.and_then(|name| wanted("engagement", name));
        match wanted("address", options.address_column) {
            Some(address) if problems.is_empty() => Ok(Layout {
                delimiter: self.delimiter,
                address,
                engagement,
                data: self.end as u64,
                first_line: self.next_line,
                columns: self.names,
            }),
            _ => Err(problems),
        }
    }

    /// The problem that no column is called `wanted`, the one for `what`.
    fn missing(&self, file_name: &str, what: &str, wanted: &str) -> Problem {
        let names = || self.names.iter().map(String::as_str);
        let place = self.places.first().cloned().unwrap_or_else(|| Place::whole(file_name));
        let lower: Vec<_> = names().map(str::to_lowercase).collect();
        let wanted_lower = wanted.to_lowercase();
        let like = suggest(&wanted_lower, lower.iter().map(String::as_str))
            .and_then(|like| lower.iter().position(|name| name == like))
            .map(|at| &self.names[at]);
        let near = match like {
            Some(name) if name.to_lowercase() == wanted_lower => {
                format!("write {name:?}: names are case-sensitive; ")
            }
            Some(name) => format!("did you mean {name:?}? "),
            None => String::new(),
        };
        let short = |name: &str| format!("{:?}", name.chars().take(NAME_SHOWN).collect::<String>());
        let shown: Vec<_> = names().take(NAMES_SHOWN).map(short).collect();
        let more = match self.names.len().saturating_sub(NAMES_SHOWN) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let help = format!("{near}the columns are {}{more}", shown.join(", "));
        Problem::new(place, format!("the list has no {what} column {wanted:?}"), help)
    }
}

/// A place within the header, whose own first line is that of `header`, as a place of the file.
fn shifted(place: Place, header: &Place) -> Place {
    Place { line: place.line + header.line - 1, ..place }
}

fn name(field: &[u8]) -> String {
    String::from_utf8_lossy(field).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &[u8]) -> Result<Layout, Vec<String>> {
        let options = Options { delimiter: None, address_column: "email", engagement_column: None };
        Layout::read("list.csv", head, &options)
            .map_err(|problems| problems.iter().map(Problem::to_string).collect())
    }

    #[test]
    fn headers_are_read_with_their_delimiter_and_place_of_data() {
        for (head, delimiter, columns, address, data, first_line) in [
            ("email,name\na@b.c,d\n", b',', &["email", "name"][..], 0, 11, 2),
            ("name;email\r\na;b\r\n", b';', &["name", "email"], 1, 12, 2),
            ("name\temail\rx", b'\t', &["name", "email"], 1, 11, 2),
            ("a|email|b", b'|', &["a", "email", "b"], 1, 9, 1),
            ("email\n", b',', &["email"], 0, 6, 2),
            ("\u{feff}email ,\"full, name\"\n", b',', &["email", "full, name"], 0, 23, 2),
            ("\"last, first, title\";email\n", b';', &["last, first, title", "email"], 1, 27, 2),
            ("a,b,c;email;d\n", b';', &["a,b,c", "email", "d"], 1, 14, 2),
            ("\n\r\nemail,x\n\n", b',', &["email", "x"], 0, 11, 4),
            ("\"two\nlines\",email\n", b',', &["two\nlines", "email"], 1, 18, 3),
            ("sep=;\r\na,b;email\r\n", b';', &["a,b", "email"], 1, 18, 3),
            ("Straße,email\n", b',', &["Straße", "email"], 1, 14, 2),
        ] {
            let columns = columns.iter().map(|name| (*name).to_owned()).collect();
            let expected =
                Layout { delimiter, columns, address, engagement: None, data, first_line };
            assert_eq!(read(head.as_bytes()), Ok(expected), "{head:?}");
        }
    }

    #[test]
    fn an_engagement_column_is_found_or_missed_like_the_address() {
        let read = |head: &[u8], address_column, engagement| {
            let engagement_column = Some(engagement);
            let options = Options { delimiter: None, address_column, engagement_column };
            Layout::read("l", head, &options)
                .map_err(|problems| problems.iter().map(|p| p.what.clone()).collect::<Vec<_>>())
        };
        let layout = read(b"email,opens\n", "email", "opens").unwrap();
        assert_eq!((layout.address, layout.engagement), (0, Some(1)));
        assert_eq!(
            read(b"mail,open\n", "email", "opens").unwrap_err(),
            [
                "the list has no address column \"email\"",
                "the list has no engagement column \"opens\""
            ]
        );
    }

    #[test]
    fn a_given_delimiter_is_not_questioned() {
        let options =
            Options { delimiter: Some(b'^'), address_column: "email", engagement_column: None };
        let layout = Layout::read("l", b"a,b^email\n", &options).unwrap();
        assert_eq!((layout.columns.len(), layout.column("email")), (2, Some(1)));
        let options =
            Options { delimiter: Some(b'"'), address_column: "email", engagement_column: None };
        let problems = Layout::read("l", b"email\n", &options).unwrap_err();
        assert_eq!(problems[0].what, "'\"' cannot be a delimiter");
    }

    #[test]
    fn many_columns_are_fine_up_to_the_limit() {
        let header = |count: usize| {
            let names: Vec<_> = (1..count).map(|at| format!("c{at}")).collect();
            format!("email,{}\n", names.join(","))
        };
        assert_eq!(read(header(1000).as_bytes()).unwrap().columns.len(), 1000);
        assert_eq!(read(header(COLUMNS_MAX).as_bytes()).unwrap().columns.len(), COLUMNS_MAX);
        for count in [COLUMNS_MAX + 1, COLUMNS_MAX * 3] {
            let problems = read(header(count).as_bytes()).unwrap_err();
            assert!(problems[0].contains("more than 4096 columns"), "{problems:?}");
        }
    }

    #[test]
    fn foreign_files_are_refused_with_the_cure() {
        for (head, expected) in [
            (&b""[..], "list.csv: the list is empty"),
            (b"\xef\xbb\xbf", "list.csv: the list is empty"),
            (b" \r\n\n", "list.csv: the list is empty"),
            (b"\xff\xfee\0m\0", "list.csv: the list is written in UTF-16"),
            (b"\xfe\xff\0e\0m", "list.csv: the list is written in UTF-16"),
            (b"e\0m\0a\0i\0l\0\n\0", "list.csv: the header contains NUL octets, as UTF-16 does"),
            (b"PK\x03\x04xl", "list.csv: the list is a spreadsheet, not a CSV file"),
            (b"\x1f\x8b\x08", "list.csv: the list is compressed"),
            (b"email,Stra\xdfe\n", "list.csv:1: the header is not UTF-8"),
            (b"email,\"name\na@b.c,d\n", "list.csv:1: a quote in the header is not closed"),
        ] {
            let problems = read(head).unwrap_err();
            assert!(problems[0].starts_with(expected), "{problems:?}");
        }
        let endless = vec![b'x'; HEAD_OCTETS];
        assert!(read(&endless).unwrap_err()[0].contains("the header exceeds 1 MiB"));
    }

    #[test]
    fn every_problem_of_a_header_is_told_at_once() {
        let problems = read("\nE-Mail, name,,name\n".as_bytes()).unwrap_err();
        assert_eq!(
            problems,
            [
                "list.csv:2:1: the list has no address column \"email\"\n    help: did you mean \
                 \"E-Mail\"? the columns are \"E-Mail\", \"name\", \"\", \"name\"",
                "list.csv:2:14: column 3 has no name\n    help: name it, or remove it from \
                 the list",
                "list.csv:2:15: the name \"name\" is that of column 2 already\n    help: rename \
                 one of the two",
            ]
        );
    }

    #[test]
    fn a_missing_address_column_is_explained() {
        let help = |head: &str| read(head.as_bytes()).unwrap_err().remove(0);
        assert!(help("Email,a\n").contains("write \"Email\": names are case-sensitive; "));
        assert!(help("emial,a\n").contains("did you mean \"emial\"? "));
        assert!(help("x,y\n").ends_with("help: the columns are \"x\", \"y\""));
        let wide: Vec<_> = (0..40).map(|at| format!("c{at}")).collect();
        assert!(help(&wide.join(",")).ends_with("\"c29\" and 10 more"));
    }
}
