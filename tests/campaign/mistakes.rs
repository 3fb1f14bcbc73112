//! mistakes — one mistake at a time in a campaign that is good otherwise, and what is said of it.

/// What is replaced in the minimal campaign, by what, and what is then found.
pub(crate) const OF_THE_MINIMAL: &[(&str, &str, &str)] = &[
    ("id = \"hello\"", "", "c.toml: id is missing"),
    ("unsigned = true", "", "c.toml: there is no [[dkim]] key"),
    ("unsigned = true", "unsigned = true\ndkim = 1", "c.toml:6:8: dkim is a whole number"),
    ("unsigned = true", "dkim = []", "c.toml:5:8: dkim is a list"),
    ("unsigned = true", "headers = 'x'", "c.toml:5:11: headers is a text"),
    (
        "unsigned = true",
        "rate = '5/s'\nunsigned = true",
        "c.toml:5:1: unknown key \"rate\"\n    \
             help: it belongs to [delivery], or did you mean \"rates\"?",
    ),
    ("subject = \"Hello\"", "subject = \" \"", "c.toml:4:12: subject: it is empty"),
    ("text = \"letter.txt\"", "", "c.toml:7:1: there is no content"),
    ("[content]\ntext = \"letter.txt\"", "", "c.toml: there is no content"),
    ("file = \"list.csv\"", "", "c.toml:10:1: recipients.file is missing"),
    (
        "\"localhost:2525\"",
        "\"a:1\"\nconnections = 0",
        "c.toml:15:15: delivery.connections: 0 is out of range",
    ),
    ("\"localhost:2525\"", "\"a:1\"\nretry = []", "c.toml:15:9: delivery.retry: the list is empty"),
    (
        "\"localhost:2525\"",
        "\"a:1\"\nretry = ['5m', 5, '0s', 'x']",
        "c.toml:15:16: delivery.retry is a whole number",
    ),
    (
        "\"localhost:2525\"",
        "\"a:1\"\nexpire_after = '10m'",
        "c.toml:15:16: messages would expire before their first retry",
    ),
    (
        "\"localhost:2525\"",
        "\"a:1\"\nport = 2525",
        "c.toml:15:8: delivery.port is the port of the recipients' mail hosts",
    ),
    (
        "\"localhost:2525\"",
        "\"mx\"\nmessages_per_connection = 10\nretry = ['5m']\nexpire_after = '2d'",
        "c.toml:15:27: delivery.messages_per_connection is for a smarthost, and mail goes to the \
         recipients' own mail hosts\n    help: put messages_per_connection under [rates.default], \
         or under [rates.provider.NAME] for one provider\n\
         c.toml:16:9: delivery.retry is for a smarthost, and mail goes to the recipients' own mail \
         hosts\n    help: put retry under [rates.default], or under [rates.provider.NAME] for one \
         provider\n\
         c.toml:17:16: delivery.expire_after is for a smarthost",
    ),
    (
        "\"localhost:2525\"",
        "'mx'\nport = 65536",
        "c.toml:15:8: delivery.port: 65536 is out of range",
    ),
    (
        "\"localhost:2525\"",
        "'mx'\nrate_tables = ['a', 5, '']",
        "c.toml:15:21: delivery.rate_tables is a whole number\n    \
         help: it must be a list of paths, relative to the campaign file\n\
         c.toml:15:24: delivery.rate_tables: it is empty",
    ),
    (
        "\"localhost:2525\"",
        "'mx'\npool = 'fresh'",
        "c.toml:15:8: delivery.pool: no [[source]] is in the pool \"fresh\"\n    \
         help: there are default",
    ),
    (
        "\"localhost:2525\"",
        "'mx'\npool = 'fersh'\n[[source]]\naddress = '192.0.2.1'\npool = 'fresh'",
        "c.toml:15:8: delivery.pool: no [[source]] is in the pool \"fersh\"\n    \
         help: did you mean \"fresh\"?",
    ),
    (
        "[delivery]",
        "[[source]]\naddress = '192.0.2.1'\n[[source]]\naddress = '::ffff:192.0.2.1'\n[delivery]",
        "c.toml:16:11: the source 192.0.2.1 is given twice\n    help: it already stands in line 14",
    ),
    ("[delivery]", "[[source]]\nweight = 1\n[delivery]", "c.toml:13:1: source.address is missing"),
    (
        "[delivery]",
        "[[source]]\naddress = 'mail.example'\nweight = 1001\npool = 'a b'\n[delivery]",
        "c.toml:14:11: source.address: \"mail.example\" is not an IP address\n    \
         help: it must be an IP address of this machine\n\
         c.toml:15:10: source.weight: 1001 is out of range\n    \
         help: it must be a whole number from 1 to 1000\n\
         c.toml:16:8: source.pool: \"a b\" is not a name",
    ),
    (
        "[delivery]",
        "[source]\naddress = '192.0.2.1'\n[delivery]",
        "c.toml:13:1: source is a section\n    help: it must be a list of sections, [[source]]",
    ),
    (
        "[delivery]",
        "[[source]]\naddress = '192.0.2.1'\nwarmup = 'slow'\n[delivery]",
        "c.toml:15:10: source.warmup needs source.warmup_from, the first day of the warm-up",
    ),
    (
        "[delivery]",
        "[[source]]\naddress = '192.0.2.1'\nwarmup_from = '2026-11-21'\n[delivery]",
        "c.toml:15:15: source.warmup_from needs source.warmup",
    ),
    (
        "[delivery]",
        "[[source]]\naddress = '192.0.2.1'\nwarmup = 's'\nwarmup_from = '2026-02-29'\n[delivery]",
        "c.toml:16:15: source.warmup_from: \"2026-02-29\" is not a date",
    ),
    (
        "[delivery]",
        "[dns]\nservers = ['ns.example']\ntimeout = '0s'\nattempts = 11\nipv6 = 'no'\n[delivery]",
        "c.toml:14:12: dns.servers: \"ns.example\" is not the address of a resolver",
    ),
    (
        "[delivery]",
        "[warmup]\nschedules = []\noverflow = 'cold'\n[delivery]",
        "c.toml:14:13: warmup.schedules: the list is empty\n    \
         help: it must be a list of paths, relative to the campaign file\n\
         c.toml:15:12: warmup.overflow: \"cold\" is no choice",
    ),
    (
        "[delivery]",
        "[[threshold]]\nmeasure = 'bounces'\nabove = '8'\nat_least = 0\ncommand = ['']\n[delivery]",
        "c.toml:13:1: threshold.action is missing\n    \
         help: it must be \"warn\", \"slow\" or \"stop\"\n\
         c.toml:13:1: threshold.window is missing\n    \
         help: it must be a duration, such as \"15m\", \"4h\" or \"5d\"\n\
         c.toml:14:11: threshold.measure: \"bounces\" is no choice\n    \
         help: it must be \"deferral\", \"bounce\" or \"block\"\n\
         c.toml:15:9: threshold.above: \"8\" is not such a percentage\n    \
         help: it must be a percentage above 0% and up to 100%, such as \"8%\" or \"0.3%\"\n\
         c.toml:16:12: threshold.at_least: 0 is out of range\n    \
         help: it must be a whole number from 1 to 4294967295\n\
         c.toml:17:12: threshold.command: the program has no name",
    ),
    (
        "[delivery]",
        "[rate.default]\n[delivery]",
        "c.toml:13:2: unknown key \"rate\"\n    \
         help: it belongs to [delivery], or did you mean \"rates\"?",
    ),
    (
        "[delivery]",
        "[unsubscribe]\n[delivery]",
        "c.toml:13:1: [unsubscribe] names no way to unsubscribe",
    ),
    (
        "[delivery]",
        "[unsubscribe]\nmailto = 'a@b.example'\none_click = true\n[delivery]",
        "c.toml:15:13: one_click needs a url",
    ),
    (
        "[delivery]",
        "[headers]\nX-A = '1'\nx-a = '2'\n[delivery]",
        "c.toml:15:1: header x-a is already set as X-A",
    ),
    ("[delivery]", "[headers]\nX-A = 1\n[delivery]", "c.toml:14:7: headers.X-A is a whole number"),
    (
        "[delivery]",
        "[[dkim]]\ndomain = 'example.com'\nselector = 's'\nkey_file = 'k'\n[delivery]",
        "c.toml:5:12: unsigned = true contradicts [[dkim]]",
    ),
    (
        "unsigned = true",
        "[[dkim]]\ndomain = 'example.com'\nselector = 's'\nkey_file = 'k'\n\
             [[dkim]]\ndomain = 'Example.com'\nselector = 'S'\nkey_file = 'l'",
        "c.toml:11:12: the key s._domainkey.example.com is given twice",
    ),
    (
        "unsigned = true",
        "[[dkim]]\ndomain = 'notexample.com'\nselector = 's'\nkey_file = 'k'",
        "c.toml:6:10: no signing domain aligns",
    ),
    ("unsigned = true", "[[dkim]]\ndomain = 'example.com'", "c.toml:5:1: dkim.key_file is missing"),
    (
        "from = \"news@example.com\"",
        "from = \"News <{{ a }}@example.com>\"",
        "c.toml:2:9: from: \"{{ a }}@example.com\" has a template\n    \
             help: an address is the same for all recipients",
    ),
];
