//! column — one definition per column: its name, its type, how it is stored and where its value
//! comes from.
//!
//! The list of a [`Table`] is the schema, the writer's settings and the filling of the rows at
//! once, so that the three cannot differ. Only types that DuckDB, Polars, pyarrow, Spark, Trino
//! and Iceberg read alike can be expressed: signed integers, DOUBLE, BOOLEAN, UTC microseconds,
//! plain strings. Pushing a row cannot fail. Nothing here knows a file.

use std::sync::Arc;

use arrow_array::ArrayRef;
use arrow_array::builder::{
    ArrayBuilder, BooleanBuilder, Float64Builder, Int32Builder, Int64Builder, StringBuilder,
    TimestampMicrosecondBuilder,
};
use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;

use crate::units::Utc;

/// Rows of one row group. DuckDB parallelises over row groups and is good from 100,000 to
/// 1,000,000 rows ("Parquet tips" of its documentation); arrow's default of 1,048,576 would give
/// a file of a million events to one thread.
const ROW_GROUP_ROWS: usize = 262_144;
/// Octets of one row group, an upper bound for the memory of writer and reader.
const ROW_GROUP_BYTES: usize = 128 << 20;
/// Level 3 is zstd's own default; the writer's default is no compression at all.
const ZSTD_LEVEL: i32 = 3;
/// One lookup in a hundred reads a row group in vain, for 10.5 bits per row (the table of
/// BloomFilter.md in parquet-format).
const BLOOM_FALSE_POSITIVES: f64 = 0.01;
/// The only zone name that every reader accepts; iceberg-rust refuses all others but `+00:00`.
const ZONE: &str = "UTC";

/// A table of the accounting data: a name and its columns in their order.
pub(super) trait Table: Sized + 'static {
    /// The name of its directory.
    const NAME: &'static str;
    /// What one row is made from.
    type Row<'a>;
    /// Every column of version 1, in the order of the file. Only ever added to, at the end.
    const COLUMNS: &'static [Column<Self>];
}

/// How a column finds its value in a row; the variant is the type.
pub(super) enum Read<T: Table> {
    /// INT32.
    Int32(for<'r, 'a> fn(&'r T::Row<'a>) -> Option<i32>),
    /// INT64.
    Int64(for<'r, 'a> fn(&'r T::Row<'a>) -> Option<i64>),
    /// INT64 with TIMESTAMP(MICROS, isAdjustedToUTC=true).
    Time(for<'r, 'a> fn(&'r T::Row<'a>) -> Option<Utc>),
    /// DOUBLE.
    Double(for<'r, 'a> fn(&'r T::Row<'a>) -> Option<f64>),
    /// BOOLEAN.
    Bool(for<'r, 'a> fn(&'r T::Row<'a>) -> Option<bool>),
    /// BYTE_ARRAY with STRING.
    Text(for<'r, 'a> fn(&'r T::Row<'a>) -> Option<&'r str>),
}

/// How the values of a column are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Storage {
    /// As they are: values that hardly repeat.
    Plain,
    /// As indices of a dictionary: values that repeat.
    Dictionary,
    /// As they are, with a bloom filter per row group.
    Bloom,
}

/// One column.
pub(super) struct Column<T: Table> {
    name: &'static str,
    read: Read<T>,
    required: bool,
    storage: Storage,
}

impl<T: Table> Column<T> {
    const fn new(name: &'static str, read: Read<T>, storage: Storage) -> Column<T> {
        Column { name, read, required: false, storage }
    }

    /// A small number that repeats: a code, a count of tries.
    pub(super) const fn int32(
        name: &'static str,
        read: for<'r, 'a> fn(&'r T::Row<'a>) -> Option<i32>,
    ) -> Column<T> {
        Column::new(name, Read::Int32(read), Storage::Dictionary)
    }

    /// A number that hardly repeats.
    pub(super) const fn int64(
        name: &'static str,
        read: for<'r, 'a> fn(&'r T::Row<'a>) -> Option<i64>,
    ) -> Column<T> {
        Column::new(name, Read::Int64(read), Storage::Plain)
    }

    /// A point in time.
    pub(super) const fn time(
        name: &'static str,
        read: for<'r, 'a> fn(&'r T::Row<'a>) -> Option<Utc>,
    ) -> Column<T> {
        Column::new(name, Read::Time(read), Storage::Plain)
    }

    /// A fraction.
    pub(super) const fn double(
        name: &'static str,
        read: for<'r, 'a> fn(&'r T::Row<'a>) -> Option<f64>,
    ) -> Column<T> {
        Column::new(name, Read::Double(read), Storage::Plain)
    }

    /// Yes or no.
    pub(super) const fn bool(
        name: &'static str,
        read: for<'r, 'a> fn(&'r T::Row<'a>) -> Option<bool>,
    ) -> Column<T> {
        Column::new(name, Read::Bool(read), Storage::Plain)
    }

    /// A word that repeats.
    pub(super) const fn word(
        name: &'static str,
        read: for<'r, 'a> fn(&'r T::Row<'a>) -> Option<&'r str>,
    ) -> Column<T> {
        Column::new(name, Read::Text(read), Storage::Dictionary)
    }

    /// A text that hardly repeats.
    pub(super) const fn text(
        name: &'static str,
        read: for<'r, 'a> fn(&'r T::Row<'a>) -> Option<&'r str>,
    ) -> Column<T> {
        Column::new(name, Read::Text(read), Storage::Plain)
    }

    /// A text that is searched for by its value.
    pub(super) const fn searched(
        name: &'static str,
        read: for<'r, 'a> fn(&'r T::Row<'a>) -> Option<&'r str>,
    ) -> Column<T> {
        Column::new(name, Read::Text(read), Storage::Bloom)
    }

    /// The column without nulls.
    pub(super) const fn required(mut self) -> Column<T> {
        self.required = true;
        self
    }

    fn data_type(&self) -> DataType {
        match self.read {
            Read::Int32(_) => DataType::Int32,
            Read::Int64(_) => DataType::Int64,
            Read::Time(_) => DataType::Timestamp(TimeUnit::Microsecond, Some(ZONE.into())),
            Read::Double(_) => DataType::Float64,
            Read::Bool(_) => DataType::Boolean,
            Read::Text(_) => DataType::Utf8,
        }
    }

    fn store(&self, properties: WriterPropertiesBuilder) -> WriterPropertiesBuilder {
        let path = ColumnPath::from(self.name);
        let dictionary = self.storage == Storage::Dictionary;
        let properties = properties.set_column_dictionary_enabled(path.clone(), dictionary);
        if self.storage != Storage::Bloom {
            return properties;
        }
        properties
            .set_column_bloom_filter_fpp(path.clone(), BLOOM_FALSE_POSITIVES)
            .set_column_bloom_filter_max_ndv(path, ROW_GROUP_ROWS as u64)
    }
}

/// The Arrow schema of a table.
pub(super) fn schema<T: Table>() -> SchemaRef {
    let field = |column: &Column<T>| Field::new(column.name, column.data_type(), !column.required);
    Arc::new(Schema::new(T::COLUMNS.iter().map(field).collect::<Vec<_>>()))
}

/// How a file of this table is written, with `footer` as its key-value metadata.
pub(super) fn properties<T: Table>(footer: Vec<KeyValue>) -> WriterProperties {
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("zstd has levels 1 to 22");
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_max_row_group_bytes(Some(ROW_GROUP_BYTES))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_key_value_metadata(Some(footer));
    T::COLUMNS.iter().fold(properties, |properties, column| column.store(properties)).build()
}

/// A column being filled: where values come from and where they go, of one type.
enum Filling<T: Table> {
    Int32(for<'r, 'a> fn(&'r T::Row<'a>) -> Option<i32>, Int32Builder),
    Int64(for<'r, 'a> fn(&'r T::Row<'a>) -> Option<i64>, Int64Builder),
    Time(for<'r, 'a> fn(&'r T::Row<'a>) -> Option<Utc>, TimestampMicrosecondBuilder),
    Double(for<'r, 'a> fn(&'r T::Row<'a>) -> Option<f64>, Float64Builder),
    Bool(for<'r, 'a> fn(&'r T::Row<'a>) -> Option<bool>, BooleanBuilder),
    Text(for<'r, 'a> fn(&'r T::Row<'a>) -> Option<&'r str>, StringBuilder),
}

impl<T: Table> Filling<T> {
    fn of(column: &Column<T>) -> Filling<T> {
        match column.read {
            Read::Int32(read) => Filling::Int32(read, Int32Builder::new()),
            Read::Int64(read) => Filling::Int64(read, Int64Builder::new()),
            Read::Time(read) => {
                Filling::Time(read, TimestampMicrosecondBuilder::new().with_timezone(ZONE))
            }
            Read::Double(read) => Filling::Double(read, Float64Builder::new()),
            Read::Bool(read) => Filling::Bool(read, BooleanBuilder::new()),
            Read::Text(read) => Filling::Text(read, StringBuilder::new()),
        }
    }

    fn push(&mut self, row: &T::Row<'_>) {
        match self {
            Filling::Int32(read, values) => values.append_option(read(row)),
            Filling::Int64(read, values) => values.append_option(read(row)),
            Filling::Time(read, values) => values.append_option(read(row).map(|time| time.0)),
            Filling::Double(read, values) => values.append_option(read(row)),
            Filling::Bool(read, values) => values.append_option(read(row)),
            Filling::Text(read, values) => values.append_option(read(row)),
        }
    }

    fn take(&mut self) -> ArrayRef {
        match self {
            Filling::Int32(_, values) => ArrayBuilder::finish(values),
            Filling::Int64(_, values) => ArrayBuilder::finish(values),
            Filling::Time(_, values) => ArrayBuilder::finish(values),
            Filling::Double(_, values) => ArrayBuilder::finish(values),
            Filling::Bool(_, values) => ArrayBuilder::finish(values),
            Filling::Text(_, values) => ArrayBuilder::finish(values),
        }
    }
}

/// The rows that wait to be encoded together.
pub(super) struct Batch<T: Table> {
    columns: Vec<Filling<T>>,
    rows: usize,
}

impl<T: Table> Batch<T> {
    /// An empty batch of `T`.
    pub(super) fn new() -> Batch<T> {
        Batch { columns: T::COLUMNS.iter().map(Filling::of).collect(), rows: 0 }
    }

    /// Adds a row and says how many there are now.
    pub(super) fn push(&mut self, row: &T::Row<'_>) -> usize {
        for column in &mut self.columns {
            column.push(row);
        }
        self.rows += 1;
        self.rows
    }

    /// The columns so far; the batch is empty again.
    pub(super) fn take(&mut self) -> Vec<ArrayRef> {
        self.rows = 0;
        self.columns.iter_mut().map(Filling::take).collect()
    }
}
