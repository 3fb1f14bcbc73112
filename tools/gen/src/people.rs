//! people — the words from which rows are made. Tables only.
//!
//! No first name begins like a personality of the test receiver (`defer`, `bounce`, `full`, …), so
//! a generated list is delivered as a whole.

pub(crate) const FIRST_NAMES: [&str; 32] = [
    "Anna", "Ben", "Carla", "David", "Emma", "Felix", "Hanna", "Ivan", "Julia", "Karl", "Laura",
    "Max", "Nina", "Oscar", "Paula", "Quentin", "Rosa", "Tom", "Ursula", "Victor", "Wanda",
    "Xavier", "Yara", "Zeno", "Alice", "Martin", "Claire", "James", "Linda", "Robert", "Maria",
    "Peter",
];

pub(crate) const LAST_NAMES: [&str; 32] = [
    "Adams",
    "Becker",
    "Clark",
    "Dubois",
    "Evans",
    "Fischer",
    "Garcia",
    "Hoffmann",
    "Iverson",
    "Jones",
    "Keller",
    "Lefevre",
    "Meyer",
    "Novak",
    "Olsen",
    "Petit",
    "Quinn",
    "Rossi",
    "Schmidt",
    "Taylor",
    "Underwood",
    "Vogel",
    "Weber",
    "Xu",
    "Young",
    "Zimmer",
    "Moreau",
    "Brown",
    "Martinez",
    "Wagner",
    "Kowalski",
    "Smith",
];

pub(crate) const UMLAUT_NAMES: [(&str, &str); 8] = [
    ("Jürgen", "Müller"),
    ("Zoë", "Lefèvre"),
    ("François", "Garçon"),
    ("Søren", "Ægidius"),
    ("Łukasz", "Wójcik"),
    ("Čeněk", "Dvořák"),
    ("Μαρία", "Παπαδοπούλου"),
    ("花子", "山田"),
];

pub(crate) const CITIES: [(&str, &str); 12] = [
    ("Berlin", "DE"),
    ("Hamburg", "DE"),
    ("Bremen", "DE"),
    ("Paris", "FR"),
    ("Lyon", "FR"),
    ("London", "GB"),
    ("Leeds", "GB"),
    ("Boston", "US"),
    ("Denver", "US"),
    ("Austin", "US"),
    ("Milano", "IT"),
    ("Wien", "AT"),
];

pub(crate) const PLANS: [&str; 4] = ["free", "basic", "plus", "pro"];

pub(crate) const NOTES: [&str; 4] =
    ["newsletter", "prefers mornings", "met at the fair", "long-time customer"];
