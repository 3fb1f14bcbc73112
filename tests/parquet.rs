//! parquet — the accounting data as others see it: written by the public API, read back by
//! parquet's own reader and by DuckDB, Polars and pyarrow, and compared with `docs/accounting.md`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it is")]

#[path = "parquet/rows.rs"]
mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};
use mailshot::account::{AccountError, EventsWriter, Layout, TableName, Written};
use mailshot::units::Utc;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{LogicalType, Repetition, TimeUnit as ParquetUnit, Type};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::{Value, json};

use rows::{ExpectedRow, ROWS, START, expected, facts, outcome, run, texts, write_all};

const TABLES: [TableName; 3] = [TableName::Events, TableName::Messages, TableName::Runs];

/// A column as a table of `docs/accounting.md` has it.
#[derive(Debug, PartialEq, Eq)]
struct Documented {
    name: String,
    kind: String,
    required: bool,
}

fn documented(table: TableName) -> Vec<Documented> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/accounting.md")).unwrap();
    let heading = format!("## {}\n", table.word());
    let (_, section) = text.split_once(&heading).expect("a section for every table");
    let section = section.split("\n## ").next().unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 5, "{line}");
        Documented {
            name: cells[0].trim_matches('`').to_owned(),
            kind: cells[1].to_owned(),
            required: cells[4] == "never",
        }
    };
    section.lines().filter(|line| line.starts_with("| `")).map(row).collect()
}

/// The columns of a file by its Parquet schema alone.
fn in_file(metadata: &ParquetMetaData) -> Vec<Documented> {
    let describe = |column: &parquet::schema::types::ColumnDescPtr| {
        let utc = LogicalType::timestamp(true, ParquetUnit::MICROS);
        let logical = column.logical_type_ref();
        let kind = match (column.physical_type(), logical) {
            (Type::INT32, None) => "INT32".into(),
            (Type::INT64, None) => "INT64".into(),
            (Type::INT64, Some(logical)) if *logical == utc => "TIMESTAMP".into(),
            (Type::DOUBLE, None) => "DOUBLE".into(),
            (Type::BOOLEAN, None) => "BOOLEAN".into(),
            (Type::BYTE_ARRAY, Some(LogicalType::String)) => "STRING".into(),
            other => format!("{other:?}"),
        };
        let required = column.self_type().get_basic_info().repetition() == Repetition::REQUIRED;
        Documented { name: column.path().string(), kind, required }
    };
    metadata.file_metadata().schema_descr().columns().iter().map(describe).collect()
}

fn metadata(path: &Path) -> ParquetMetaData {
    SerializedFileReader::new(fs::File::open(path).unwrap()).unwrap().metadata().clone()
}

/// The value at `at`, times as microseconds.
fn value(array: &ArrayRef, at: usize) -> Value {
    if array.is_null(at) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Int32 => json!(array.as_primitive::<Int32Type>().value(at)),
        DataType::Int64 => json!(array.as_primitive::<Int64Type>().value(at)),
        DataType::Float64 => json!(array.as_primitive::<Float64Type>().value(at)),
        DataType::Boolean => json!(array.as_boolean().value(at)),
        DataType::Utf8 => json!(array.as_string::<i32>().value(at)),
        DataType::Timestamp(TimeUnit::Microsecond, Some(zone)) if &**zone == "UTC" => {
            json!(array.as_primitive::<TimestampMicrosecondType>().value(at))
        }
        other => panic!("no column is of type {other}"),
    }
}

fn parquet_files(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(parquet_files(&path));
        } else {
            assert_eq!(path.extension().unwrap(), "parquet", "only Parquet is below v1");
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The rows of a table as parquet's own reader has them, a column by its name.
fn read(layout: &Layout, table: TableName) -> Vec<BTreeMap<String, Value>> {
    let mut rows = Vec::new();
    for path in parquet_files(&layout.table(table)) {
        let file = fs::File::open(path).unwrap();
        for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
            let batch = batch.unwrap();
            let schema = batch.schema();
            let names = || schema.fields().iter().map(|field| field.name().clone());
            rows.extend((0..batch.num_rows()).map(|at| {
                let values = batch.columns().iter().map(|column| value(column, at));
                names().zip(values).collect::<BTreeMap<String, Value>>()
            }));
        }
    }
    rows
}

/// A row with the columns that are expected to be null written out.
fn complete(table: &[Documented], row: ExpectedRow) -> BTreeMap<String, Value> {
    let mut all: BTreeMap<String, Value> =
        table.iter().map(|column| (column.name.clone(), Value::Null)).collect();
    for (name, value) in row {
        let known = all.insert(name.to_owned(), value);
        assert!(known.is_some(), "{name} is not documented");
    }
    all
}

#[test]
fn what_is_written_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    write_all(&layout);
    for table in TABLES {
        let columns = documented(table);
        let found = read(&layout, table);
        let wanted = expected(table);
        assert_eq!(found.len(), wanted.len());
        for (at, (found, wanted)) in found.into_iter().zip(wanted).enumerate() {
            assert_eq!(found, complete(&columns, wanted), "row {at} of {}", table.word());
        }
    }
}

#[test]
fn the_schema_is_the_documented_one() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let written = write_all(&layout);
    let tables = [TableName::Events, TableName::Events, TableName::Messages, TableName::Runs];
    for (file, table) in written.iter().zip(tables) {
        assert_eq!(in_file(&metadata(&file.path)), documented(table), "{}", table.word());
    }
    let always = |text: &str| text.lines().filter(|line| line.ends_with("| always |")).count();
    let docs = include_str!("../docs/accounting.md");
    let rows = expected(TableName::Events);
    let filled: BTreeSet<&str> = rows.iter().flatten().map(|(name, _)| *name).collect();
    let columns = documented(TableName::Events);
    let reserved = columns.iter().filter(|column| !filled.contains(column.name.as_str()));
    assert_eq!(reserved.count(), always(docs), "reserved columns are null, the others are not");
}

#[test]
fn the_files_are_stored_as_promised() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let plain = [
        "rcpt_hash",
        "rcpt_to",
        "response_text",
        "message_id_header",
        "msg_seq",
        "event_time",
        "queue_ms",
        "input_line",
    ];
    for file in write_all(&layout) {
        let metadata = metadata(&file.path);
        assert_eq!(metadata.file_metadata().num_rows(), i64::try_from(file.rows).unwrap());
        let footer = metadata.file_metadata().key_value_metadata().unwrap();
        let keys: Vec<&str> = footer.iter().map(|pair| pair.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "schema_version",
                "run_id",
                "campaign_id",
                "template_sha256",
                "list_sha256",
                "rate_table_sha256",
                "tool_version",
            ],
            "and no ARROW:schema"
        );
        for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
            let name = column.column_path().string();
            assert_eq!(column.compression_codec().to_string(), "ZSTD", "{name}");
            assert_eq!(column.bloom_filter_offset().is_some(), name == "rcpt_hash", "{name}");
            assert!(column.column_index_offset().is_some(), "{name} has statistics of its pages");
            let dictionary = column.dictionary_page_offset().is_some();
            assert!(!(dictionary && plain.contains(&name.as_str())), "{name}");
            assert!(dictionary || name != "event_type", "{name}");
        }
    }
}

#[test]
fn files_appear_complete_in_the_partition_of_their_day() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let written = write_all(&layout);
    let names: Vec<&Path> =
        written.iter().map(|file| file.path.strip_prefix(dir.path()).unwrap()).collect();
    assert_eq!(
        names,
        [
            Path::new("v1/events/dt=2026-11-21/spring_01KAJ3ZC9M0S5V8Q2T4W6X8Y0Z_3.parquet"),
            Path::new("v1/events/dt=2026-11-22/spring_01KAJ3ZC9M0S5V8Q2T4W6X8Y0Z_3.parquet"),
            Path::new("v1/messages/dt=2026-11-21/spring_01KAJ3ZC9M0S5V8Q2T4W6X8Y0Z_0.parquet"),
            Path::new("v1/runs/dt=2026-11-21/spring_01KAJ3ZC9M0S5V8Q2T4W6X8Y0Z_0.parquet"),
        ]
    );
    let rows: Vec<u64> = written.iter().map(|file| file.rows).collect();
    assert_eq!(rows, [10_000, 10_000, u64::from(ROWS), 1]);
    for file in &written {
        assert_eq!(file.bytes, fs::metadata(&file.path).unwrap().len());
    }
    assert_eq!(parquet_files(&dir.path().join("v1")).len(), written.len());
    assert_eq!(fs::read_dir(layout.work_dir()).unwrap().count(), 0, "nothing is left over");
}

#[test]
fn made_again_a_file_is_the_same() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let content = |written: &[Written]| -> Vec<Vec<u8>> {
        written.iter().map(|file| fs::read(&file.path).unwrap()).collect()
    };
    let once = content(&write_all(&Layout::new(first.path())));
    assert!(once == content(&write_all(&Layout::new(second.path()))), "in another directory");
    assert!(once == content(&write_all(&Layout::new(first.path()))), "in its own place");
}

#[test]
fn a_full_disk_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let target = layout.file(TableName::Events, Utc(START), &run(), 0);
    fs::create_dir_all(layout.work_dir()).unwrap();
    let name = format!("events.dt=2026-11-21.{}", target.file_name().unwrap().to_str().unwrap());
    std::os::unix::fs::symlink("/dev/full", layout.work_dir().join(name)).unwrap();
    let mut writer = EventsWriter::create(&target, &layout.work_dir(), run()).unwrap();
    let texts = texts(0);
    writer.push(&outcome(0, &texts), &facts(0, &texts)).unwrap();
    let error = writer.finish().unwrap_err();
    let AccountError::Io { source, .. } = &error else { panic!("{error}") };
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    assert!(!dir.path().join("v1").exists(), "not even the directory");
    assert_eq!(fs::read_dir(layout.work_dir()).unwrap().count(), 0);
}

#[test]
fn a_writer_that_is_dropped_leaves_the_file_of_before() {
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    let target = layout.file(TableName::Events, Utc(START), &run(), 0);
    let texts = texts(0);
    let create = || EventsWriter::create(&target, &layout.work_dir(), run()).unwrap();
    let mut first = create();
    first.push(&outcome(0, &texts), &facts(0, &texts)).unwrap();
    first.finish().unwrap();
    let before = fs::read(&target).unwrap();
    drop(create());
    assert_eq!(fs::read(&target).unwrap(), before);
    assert_eq!(fs::read_dir(layout.work_dir()).unwrap().count(), 0);
}

/// What a reader must say of a table: its rows, its days and a summary of each column.
fn summary(table: TableName) -> Value {
    let columns = documented(table);
    let rows: Vec<_> = expected(table).into_iter().map(|row| complete(&columns, row)).collect();
    let column = |column: &Documented| {
        let values: Vec<&Value> =
            rows.iter().map(|row| &row[&column.name]).filter(|value| !value.is_null()).collect();
        let order = |a: &&&Value, b: &&&Value| compare(a, b);
        json!({
            "name": column.name,
            "type": column.kind,
            "count": values.len(),
            "min": values.iter().min_by(order),
            "max": values.iter().max_by(order),
            "sum": sum(&column.kind, &values),
        })
    };
    let days = if table == TableName::Events { 2 } else { 1 };
    json!({
        "rows": rows.len(),
        "days": days,
        "columns": columns.iter().map(column).collect::<Vec<_>>(),
    })
}

fn compare(a: &Value, b: &Value) -> std::cmp::Ordering {
    match (a, b) {
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        _ => a.as_f64().unwrap().total_cmp(&b.as_f64().unwrap()),
    }
}

fn sum(kind: &str, values: &[&Value]) -> Value {
    match kind {
        _ if values.is_empty() => Value::Null,
        "INT32" | "INT64" => json!(values.iter().map(|v| v.as_i64().unwrap()).sum::<i64>()),
        "DOUBLE" => json!(values.iter().map(|v| v.as_f64().unwrap()).sum::<f64>()),
        _ => Value::Null,
    }
}

/// The interpreter with the readers in it; `None`, said aloud, where it is not installed.
///
/// Where `CI` or `MAILSHOT_REQUIRE_PARTS` is set, its absence is a failure.
fn interpreter() -> Option<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/parts/venv/bin/python3");
    if python.exists() {
        return Some(python);
    }
    let required =
        ["CI", "MAILSHOT_REQUIRE_PARTS"].iter().any(|name| std::env::var_os(name).is_some());
    assert!(!required, "{} is missing: run tools/setup", python.display());
    // Past the test harness, which would swallow what a passing test prints.
    let note =
        "SKIPPED: the Parquet readers of tests/parquet.rs are not installed: run tools/setup\n";
    std::io::stderr().write_all(note.as_bytes()).unwrap();
    None
}

#[test]
fn duckdb_polars_and_pyarrow_agree_with_the_truth() {
    let Some(python) = interpreter() else { return };
    let dir = tempfile::tempdir().unwrap();
    let layout = Layout::new(dir.path());
    write_all(&layout);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/parquet_readers.py");
    for table in TABLES {
        let output = Command::new(&python).arg(&script).arg(layout.table(table)).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let truth = summary(table);
        for reader in ["duckdb", "polars", "pyarrow"] {
            let columns = found[reader]["columns"].as_array().unwrap();
            for (found, truth) in columns.iter().zip(truth["columns"].as_array().unwrap()) {
                assert_eq!(found, truth, "{reader}, {}", table.word());
            }
            assert_eq!(found[reader], truth, "{reader}, {}", table.word());
        }
    }
}
