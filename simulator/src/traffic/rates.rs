//! Tables of rates: how many requests came per second or minute, without the requests themselves.
//!
//! A CSV file, plain or gzip, whose header names a column of time (`seconds`, `minute`, or
//! `window_start_s` and `start_seconds` for windows, whose rows stand for their middle) and one of
//! rates (`requests_per_second`, `req_per_s` or `requests_per_minute`). `mean_input_tokens` and
//! `mean_output_tokens`, or the same with `_mean` at the end, are used where they are there;
//! further columns are not read. A row that breaks this is an error that tells its line.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use csv::ByteRecord;
use flate2::bufread::MultiGzDecoder;
use thiserror::Error;

use super::curve::{Curve, CurveError, Load};
use crate::time::{Nanos, from_seconds};

/// Columns of time, with the seconds of their unit and whether a row starts a window.
const TIMES: [(&str, f64, bool); 4] = [
    ("seconds", 1.0, false),
    ("window_start_s", 1.0, true),
    ("start_seconds", 1.0, true),
    ("minute", 60.0, false),
];

/// Columns of rates, with the seconds of their unit.
const RATES: [(&str, f64); 3] = [
    ("requests_per_second", 1.0),
    ("req_per_s", 1.0),
    ("requests_per_minute", 60.0),
];

/// Columns of mean lengths.
const INPUTS: [&str; 2] = ["mean_input_tokens", "input_tokens_mean"];
const OUTPUTS: [&str; 2] = ["mean_output_tokens", "output_tokens_mean"];

/// Rows at most: a year of minutes.
const ROWS_MAX: usize = 600_000;

/// A table that cannot be read.
#[derive(Debug, Error)]
#[error("rate table `{}` {fault}", path.display())]
pub struct RatesError {
    path: PathBuf,
    fault: RatesFault,
}

/// A fault of a table.
#[derive(Debug, Error)]
enum RatesFault {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] std::io::Error),
    #[error("cannot be read as CSV: {0}")]
    Csv(#[from] csv::Error),
    #[error("has no column of {what} in line 1: name one of {names}")]
    NoColumn { what: &'static str, names: String },
    #[error("line {line} has `{column}` `{value}`: write a finite number of 0 or more")]
    Field {
        line: u64,
        column: &'static str,
        value: String,
    },
    #[error("has fewer than two rows: a curve takes two")]
    TooShort,
    #[error("has more than {ROWS_MAX} rows: give longer windows")]
    TooLong,
    #[error("line {line} is not later than the line above: sort the rows by time")]
    Unsorted { line: u64 },
    #[error("makes no curve: {0}")]
    Curve(#[from] CurveError),
}

/// Where a column is, by what number its values are multiplied, and its name.
#[derive(Clone, Copy, Debug)]
struct Column {
    place: usize,
    name: &'static str,
}

/// The curve of a table, and its length: to the end of the last row's span, which is as long as the
/// one before. Lengths are those of `load` where the table has none.
pub(super) fn read(path: &Path, load: &Load) -> Result<(Curve, Nanos), RatesError> {
    read_file(path, load).map_err(|fault| RatesError {
        path: path.to_owned(),
        fault,
    })
}

fn read_file(path: &Path, load: &Load) -> Result<(Curve, Nanos), RatesFault> {
    let mut file = BufReader::new(File::open(path)?);
    let gzip = file.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    if gzip {
        parse(MultiGzDecoder::new(file), load)
    } else {
        parse(file, load)
    }
}

fn parse(text: impl Read, load: &Load) -> Result<(Curve, Nanos), RatesFault> {
    let mut reader = csv::Reader::from_reader(text);
    let header = reader.byte_headers()?.clone();
    let find = |name: &'static str| {
        let place = header.iter().position(|field| field == name.as_bytes());
        place.map(|place| Column { place, name })
    };
    let time = TIMES
        .iter()
        .find_map(|(name, unit, starts)| Some((find(name)?, *unit, *starts)));
    let (time, time_unit, starts_window) =
        time.ok_or_else(|| no_column("time", TIMES.map(|(name, ..)| name)))?;
    let rate = RATES
        .iter()
        .find_map(|(name, unit)| Some((find(name)?, *unit)));
    let (rate, rate_unit) = rate.ok_or_else(|| no_column("rates", RATES.map(|(name, _)| name)))?;
    let (input, output) = (
        INPUTS.into_iter().find_map(find),
        OUTPUTS.into_iter().find_map(find),
    );
    let mut rows: Vec<(f64, Load)> = Vec::new();
    let mut record = ByteRecord::new();
    while reader.read_byte_record(&mut record)? {
        if rows.len() >= ROWS_MAX {
            return Err(RatesFault::TooLong);
        }
        let at_seconds = number(&record, time)? * time_unit;
        if rows.last().is_some_and(|(before, _)| at_seconds <= *before) {
            return Err(RatesFault::Unsorted {
                line: line_of(&record),
            });
        }
        let requests_per_second = number(&record, rate)? / rate_unit;
        let tokens = |column: Option<Column>, other: f64| match column {
            // A window without requests has no lengths.
            Some(_) if requests_per_second <= 0.0 => Ok(other),
            Some(column) => Ok(number(&record, column)?.max(1.0)),
            None => Ok::<f64, RatesFault>(other),
        };
        let row = Load {
            requests_per_second,
            input_tokens_mean: tokens(input, load.input_tokens_mean)?,
            output_tokens_mean: tokens(output, load.output_tokens_mean)?,
            ..*load
        };
        rows.push((at_seconds, row));
    }
    let [.., (before, _), (last, _)] = rows.as_slice() else {
        return Err(RatesFault::TooShort);
    };
    let span = last - before;
    let end = from_seconds(last + span);
    let shift = if starts_window { span / 2.0 } else { 0.0 };
    let points = rows
        .iter()
        .map(|(at, load)| (from_seconds(at + shift), *load));
    Ok((Curve::new(points.collect())?, end))
}

fn no_column<const N: usize>(what: &'static str, names: [&str; N]) -> RatesFault {
    let names = names.map(|name| format!("`{name}`")).join(", ");
    RatesFault::NoColumn { what, names }
}

fn line_of(record: &ByteRecord) -> u64 {
    record.position().map_or(0, csv::Position::line)
}

fn number(record: &ByteRecord, column: Column) -> Result<f64, RatesFault> {
    let field = record.get(column.place).unwrap_or_default();
    let text = String::from_utf8_lossy(field);
    text.trim()
        .parse::<f64>()
        .ok()
        .filter(|number| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| RatesFault::Field {
            line: line_of(record),
            column: column.name,
            value: text.into_owned(),
        })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::time::{MINUTE, SECOND};
    use crate::traffic::TrafficSpec;

    fn read_text(text: &str) -> Result<(Curve, Nanos), String> {
        parse(text.as_bytes(), &TrafficSpec::default().load).map_err(|fault| fault.to_string())
    }

    #[test]
    fn minutes_and_windows_are_understood() {
        let (curve, length) =
            read_text("minute,requests_per_minute,range\n0,60,nan\n7.5,120,8\n15,0,1\n").unwrap();
        assert_eq!(length, 45 * MINUTE / 2);
        let rate = curve.at(15 * MINUTE / 2).requests_per_second;
        assert!((rate - 2.0).abs() < 1e-9, "{rate}");
        let windows =
            "window_start_s,req_per_s,mean_input_tokens,mean_output_tokens\n0,1,10,20\n600,0,,\n";
        let (curve, length) = read_text(windows).unwrap();
        assert_eq!(length, 1_200 * SECOND);
        let middle = curve.at(300 * SECOND);
        assert!((middle.requests_per_second - 1.0).abs() < 1e-9);
        assert!((middle.input_tokens_mean - 10.0).abs() < 1e-9);
    }

    #[rstest]
    #[case::no_time(
        "a,requests_per_second\n1,2\n",
        "no column of time in line 1: name one of `seconds`"
    )]
    #[case::no_rate("seconds,b\n1,2\n", "no column of rates")]
    #[case::no_number(
        "seconds,requests_per_second\n1,2\n2,many\n",
        "line 3 has `requests_per_second` `many`"
    )]
    #[case::negative(
        "seconds,requests_per_second\n1,-2\n2,1\n",
        "line 2 has `requests_per_second` `-2`"
    )]
    #[case::unsorted("seconds,requests_per_second\n1,2\n1,2\n", "line 3 is not later")]
    #[case::short("seconds,requests_per_second\n1,2\n", "fewer than two rows")]
    #[case::ragged("seconds,requests_per_second\n1,2,3\n", "CSV")]
    fn broken_tables_are_refused_by_line(#[case] text: &str, #[case] want: &str) {
        let message = read_text(text).unwrap_err();
        assert!(message.contains(want), "{message}");
    }
}
