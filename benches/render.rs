//! render — what the templates of a 10 KB newsletter cost for one row: subject, text and HTML.

mod sample;

use mailshot::outcome::Row;
use mailshot::problem::Place;
use mailshot::template::{Part, Source, Templates, Values};

const COLUMNS: [&str; 4] = ["first_name", "last_name", "city", "plan"];
const CELLS: [&str; 4] = ["Jürgen", "Müller", "Köln", "pro"];

fn templates() -> Templates {
    let mut text = String::from("Hello {{ first_name or 'friend' }} from {{ city }},\n");
    let mut html = String::from("<p>{{ first_name }} {{ last_name }}</p>\n");
    html.push_str("{% if plan == 'pro' %}<p>Thank you, {{ city }}.</p>{% endif %}\n");
    for offer in 0..24 {
        text.push_str(&format!("Offer {offer} for {{{{ first_name }}}}: now 20 % off.\n"));
        html.push_str(&format!(
            "<table role=\"presentation\" width=\"600\"><tr><td style=\"padding:12px 24px;\
             font-family:Helvetica,Arial,sans-serif;color:#222\"><h2>Offer {offer}, \
             {{{{ first_name }}}}</h2><p>Twelve cups of café crema, now 20&nbsp;% off.</p>\
             <a href=\"https://news.example/o/{offer}?r={{{{ token }}}}\">Look</a></td></tr>\
             </table>\n"
        ));
    }
    let source = |part, text: String| Source { part, text, place: Place::whole("bench") };
    let sources = vec![
        source(Part::Subject, "{{ first_name }}, the offers of this week".into()),
        source(Part::Text, text),
        source(Part::Html, html),
    ];
    let columns = COLUMNS.map(str::to_owned);
    Templates::compile(sources, &columns).expect("good templates")
}

fn main() {
    let templates = templates();
    let values = Values {
        cell: &|column| CELLS[column],
        address: "juergen@example.org",
        row: Row(42),
        token: "01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N-42",
        run: "01KAJ3Y5ZQ8V7W6T5S4R3Q2P1N",
        campaign: "bench",
    };
    let mut out = String::new();
    sample::measure("render subject, text and html", || {
        out.clear();
        let row = templates.row(&values).expect("a good row");
        for part in [Part::Subject, Part::Text, Part::Html] {
            templates.render(part, &row, &mut out).expect("a good part");
        }
        out.len()
    });
}
