//! template — the parts of a message as Jinja templates: checked as a whole before anything is
//! sent, rendered per row.
//!
//! [`Templates::compile`] reads every template and reports every problem at once: syntax errors,
//! variables that are neither a column nor one of ours, unknown filters, tests and functions, line
//! breaks inside a header. It looks at the syntax tree, so a branch that no row ever takes is
//! checked too. [`Templates::row`] and [`Templates::render`] are the hot path. They fail with a
//! [`Fault`], which concerns one row and never the campaign.
//!
//! What authors may rely on:
//! - A column named like an identifier is a variable: `{{ first_name }}`. Every column is reachable
//!   as `{{ columns["First Name"] }}`. Ours are listed in [`OWN_NAMES`]; a name that is both a
//!   column and ours is refused where it is used.
//! - Cells are text. An empty cell is an empty text, which is false: `{{ first_name or "friend" }}`
//!   and `{{ first_name|default("friend", true) }}` greet a friend. `"0"` is true; compare or
//!   convert: `{% if points|int > 0 %}`.
//! - Printing something undefined is an error, never an empty text.
//! - `<`, `>`, `&`, `"`, `'` and `/` of values are escaped in the HTML part and nowhere else.
//! - A block tag alone on its line leaves no line behind (`trim_blocks`, `lstrip_blocks`), because
//!   blank lines are visible in a text part. HTML and text keep their final newline; a header loses
//!   the one that a multi-line TOML string ends with.
//! - `urlencode` is a filter of ours: everything but RFC 3986 unreserved characters is escaped, the
//!   slash too, so that a value stays one path segment or one query value.
//! - There is no `include`, `import` or `extends`: a template is one file, whose hash is kept.
//!
//! This room must not know the campaign file, the list's format, MIME or any encoding of headers.

mod check;
mod fault;
mod names;
mod row;
mod source;
mod walk;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use minijinja::machinery::{self, CompiledTemplate, TemplateConfig};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};

use crate::problem::Problem;

pub use fault::Fault;
pub use names::OWN_NAMES;
pub use row::{Row, Values};
pub use source::{Part, Source};

use check::Used;
use names::Vocabulary;
use row::Layout;

/// All templates of a campaign, checked and compiled. Shared by reference between threads.
pub struct Templates {
    engine: Environment<'static>,
    parts: Vec<Compiled>,
    layout: Arc<Layout>,
}

/// One part, ready to be rendered.
struct Compiled {
    source: &'static Source,
    code: CompiledTemplate<'static>,
    used: Used,
}

impl Templates {
    /// Checks and compiles all templates against the columns of the list, in their order.
    ///
    /// The text of good templates is kept until the process ends: they serve a whole run, and
    /// compiled code borrows its source.
    ///
    /// # Errors
    /// Every problem of every template, in the order of their places.
    pub fn compile(sources: Vec<Source>, columns: &[String]) -> Result<Templates, Vec<Problem>> {
        let engine = engine();
        let has_url = sources.iter().any(|source| source.part == Part::UnsubscribeUrl);
        let vocabulary = Vocabulary { columns, has_url };
        let mut problems = Vec::new();
        let mut checked = Vec::with_capacity(sources.len());
        for source in sources {
            match check::check(&source, syntax(source.part), &vocabulary, &engine) {
                Ok(used) => checked.push((source, used)),
                Err(mut found) => problems.append(&mut found),
            }
        }
        if !problems.is_empty() {
            problems.sort();
            return Err(problems);
        }
        let parts: Vec<Compiled> =
            checked.into_iter().map(|(source, used)| compile_one(source, used)).collect();
        let layout = Arc::new(Layout::new(&columns_of(&parts, columns.len(), |_| true), columns));
        Ok(Templates { engine, parts, layout })
    }

    /// Whether the campaign has this part.
    pub fn has(&self, part: Part) -> bool {
        self.find(part).is_some()
    }

    /// The columns, counted from 0, that the parts chosen by `only` may print, in ascending order.
    ///
    /// Intake asks with [`Part::is_header`] which cells must be free of control characters.
    pub fn columns_used(&self, only: impl Fn(Part) -> bool) -> Vec<usize> {
        columns_of(&self.parts, self.layout.columns_total(), only).into_iter().collect()
    }

    /// Takes over what the templates need of one row, and renders its unsubscribe URL.
    ///
    /// # Errors
    /// When the unsubscribe URL cannot be rendered for this row.
    pub fn row(&self, values: &Values<'_>) -> Result<Row, Fault> {
        let row = Row::new(&self.layout, values);
        if self.has(Part::UnsubscribeUrl) {
            let mut url = String::new();
            self.render(Part::UnsubscribeUrl, &row, &mut url)?;
            row.set_unsubscribe_url(url);
        }
        Ok(row)
    }

    /// Appends the rendered part to `out`; on a fault `out` is as before.
    ///
    /// # Panics
    /// When the campaign has no such part; ask [`Templates::has`].
    ///
    /// # Errors
    /// When the template fails for this row, or when what it made would break out of its header.
    pub fn render(&self, part: Part, row: &Row, out: &mut String) -> Result<(), Fault> {
        let compiled = self.find(part).expect("only parts of the campaign are rendered");
        let start = out.len();
        let code = &compiled.code;
        let result = machinery::eval(
            &self.engine,
            &code.instructions,
            row.value(),
            &code.blocks,
            &mut machinery::make_string_output(out),
            code.initial_auto_escape.clone(),
        );
        let fault = match result {
            Err(error) => Some(Fault::of(compiled.source, &error)),
            Ok(_) => fault::misplaced(compiled.source, &out[start..]),
        };
        fault.map_or(Ok(()), |fault| {
            out.truncate(start);
            Err(fault)
        })
    }

    fn find(&self, part: Part) -> Option<&Compiled> {
        self.parts.iter().find(|compiled| compiled.source.part == part)
    }
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.parts.iter().map(|compiled| compiled.source)).finish()
    }
}

/// minijinja with our rules: strict, and with `urlencode`.
fn engine() -> Environment<'static> {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    // Debug mode makes faults name the undefined expression; it costs nothing while all goes well.
    engine.set_debug(true);
    // `debug()` would print the whole row into the message.
    engine.remove_global("debug");
    engine.add_filter("urlencode", row::urlencode);
    engine
}

/// The whitespace rules of a part; the head of this file gives the reasons.
fn syntax(part: Part) -> SyntaxConfig {
    SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .keep_trailing_newline(!part.is_header())
        .build()
        .expect("the default delimiters are valid")
}

/// Compiles a template that has been checked.
fn compile_one(source: Source, used: Used) -> Compiled {
    let source: &'static Source = Box::leak(Box::new(source));
    let escape = if source.part == Part::Html { AutoEscape::Html } else { AutoEscape::None };
    let config = TemplateConfig {
        syntax_config: syntax(source.part),
        default_auto_escape: Arc::new(move |_| escape.clone()),
    };
    let code = CompiledTemplate::new(check::NAME, &source.text, &config)
        .expect("a template that has been parsed compiles");
    Compiled { source, code, used }
}

/// The union of the columns used by the chosen parts.
fn columns_of(parts: &[Compiled], total: usize, only: impl Fn(Part) -> bool) -> BTreeSet<usize> {
    let mut columns = BTreeSet::new();
    for compiled in parts.iter().filter(|compiled| only(compiled.source.part)) {
        if compiled.used.any_column {
            return (0..total).collect();
        }
        columns.extend(&compiled.used.columns);
    }
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome;
    use crate::problem::Place;

    fn compiled(part: Part, text: &str, columns: &[&str]) -> Templates {
        let source = |part, text: &str| Source {
            part,
            text: text.to_owned(),
            place: Place { file: "c.toml".to_owned(), line: 7, column: 12 },
        };
        let columns: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
        let mut sources = vec![source(part, text)];
        if part != Part::UnsubscribeUrl && text.contains("unsubscribe_url") {
            sources.push(source(Part::UnsubscribeUrl, "https://n.example/u?{{ token }}"));
        }
        Templates::compile(sources, &columns).unwrap()
    }

    /// Renders `text` for one row with the cells of `fields`.
    fn rendered(part: Part, text: &str, fields: &[(&str, &str)]) -> Result<String, Fault> {
        let columns: Vec<&str> = fields.iter().map(|(column, _)| *column).collect();
        let templates = compiled(part, text, &columns);
        let mut out = "before:".to_owned();
        let result = templates
            .row(&Values {
                cell: &|column| fields[column].1,
                address: "ada@example.org",
                row: outcome::Row(42),
                token: "T0K",
                run: "01RUN",
                campaign: "spring",
            })
            .and_then(|row| templates.render(part, &row, &mut out));
        assert!(result.is_ok() || out == "before:", "a fault leaves the output alone: {out}");
        result.map(|()| out["before:".len()..].to_owned())
    }

    #[test]
    fn parts_are_rendered_by_the_rules_of_their_kind() {
        let long = "x".repeat(40);
        let name: &[(&str, &str)] =
            &[("name", r#"<Ada & "Bob's">"#), ("First Name", ""), ("n", &long)];
        for (part, text, expected) in [
            (Part::Text, "Hi {{ name }}\n", "Hi <Ada & \"Bob's\">\n"),
            (Part::Html, "<p>{{ name }}\n", "<p>&lt;Ada &amp; &quot;Bob&#x27;s&quot;&gt;\n"),
            (Part::Html, "{{ name|safe }}", "<Ada & \"Bob's\">"),
            (Part::Subject, "Hi {{ name }}\n", "Hi <Ada & \"Bob's\">"),
            (Part::Subject, "Hi {{ columns['First Name'] or 'friend' }}", "Hi friend"),
            (Part::Subject, "{{ columns['First Name']|default('friend', true) }}", "friend"),
            (Part::Subject, "{{ columns['First Name']|default('friend') }}", ""),
            (Part::Text, "a\n  {% if name %}\nb\n  {% endif %}\nc\n", "a\nb\nc\n"),
            (Part::Text, "{{ n|length }} {{ columns.n|upper|first }}", "40 X"),
            (Part::Text, "{% for c in columns %}{{ c }};{% endfor %}", "name;First Name;n;"),
            (Part::Text, "{{ campaign }}/{{ run }}/{{ row }}/{{ token }}", "spring/01RUN/42/T0K"),
            (Part::Text, "{{ address|urlencode }}", "ada%40example.org"),
            (Part::Text, "{{ name|urlencode }}", "%3CAda%20%26%20%22Bob%27s%22%3E"),
            (Part::Text, "{{ 'a-Z.0_9~/ü'|urlencode }}", "a-Z.0_9~%2F%C3%BC"),
            (Part::Text, "{{ unsubscribe_url }}", "https://n.example/u?T0K"),
            (
                Part::Html,
                "<a href=\"{{ unsubscribe_url|safe }}\">",
                "<a href=\"https://n.example/u?T0K\">",
            ),
        ] {
            assert_eq!(rendered(part, text, name), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_a_row_breaks_is_its_fault() {
        let place = |line, column| Place { file: "c.toml".to_owned(), line, column };
        let unsafe_header =
            |part, character| Fault::UnsafeHeader { part, place: place(7, 12), character };
        for (part, text, cell, fault) in [
            (
                Part::Subject,
                "Hi {{ c }}",
                "a\r\nBcc: b@example.org",
                unsafe_header(Part::Subject, '\r'),
            ),
            (Part::ToName, "{{ c }}", "a\0", unsafe_header(Part::ToName, '\0')),
            (Part::Header(1), "{{ c }}", "a\u{85}", unsafe_header(Part::Header(1), '\u{85}')),
            (
                Part::UnsubscribeUrl,
                "https://n.example/{{ c }}",
                "a b",
                unsafe_header(Part::UnsubscribeUrl, ' '),
            ),
            (
                Part::UnsubscribeUrl,
                "https://n.example/{{ c }}",
                "a>",
                unsafe_header(Part::UnsubscribeUrl, '>'),
            ),
            (
                Part::UnsubscribeMailto,
                "{{ c }}@example.com",
                "ä",
                unsafe_header(Part::UnsubscribeMailto, 'ä'),
            ),
            (
                Part::Text,
                "ok\n  {{ 1 // c|int }}",
                "0",
                Fault::Render {
                    part: Part::Text,
                    place: place(8, 6),
                    reason: "invalid operation: unable to calculate 1 // 0".to_owned(),
                },
            ),
            (
                Part::Html,
                "{% if c == 'x' %}{% set y = 1 %}{% endif %}{{ y }}",
                "",
                Fault::Render {
                    part: Part::Html,
                    place: place(7, 58),
                    reason: "undefined value: `y` is undefined".to_owned(),
                },
            ),
        ] {
            assert_eq!(rendered(part, text, &[("c", cell)]), Err(fault), "{text}");
        }
    }

    #[test]
    fn columns_used_follow_every_branch_and_computed_names() {
        let columns = ["a", "b", "c d"];
        for (text, expected) in [
            ("{% if a == 'x' %}{{ b }}{% endif %}", vec![0, 1]),
            ("{{ columns['c d'] }}{{ token }}", vec![2]),
            ("{{ columns.b }}", vec![1]),
            ("{{ columns[a] }}", vec![0, 1, 2]),
            ("{% set a = 1 %}{{ a }}", vec![]),
        ] {
            let templates = compiled(Part::Subject, text, &columns);
            assert_eq!(templates.columns_used(Part::is_header), expected, "{text}");
            assert_eq!(templates.columns_used(|part| part == Part::Html), Vec::<usize>::new());
        }
    }

    /// Threads share the templates and hand rows to each other.
    const _: fn() = || {
        fn shared<T: Send + Sync>() {}
        shared::<Templates>();
        shared::<Row>();
    };

    #[test]
    fn every_name_of_ours_has_a_value() {
        for (name, _) in OWN_NAMES {
            let text = format!("{{{{ {name} }}}}");
            let value = rendered(Part::Text, &text, &[("c", "v")]);
            assert!(value.is_ok_and(|value| !value.is_empty()), "{name}");
        }
    }
}
