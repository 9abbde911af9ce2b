//! Traces as files: what is read from good ones, and what each kind of bad one is told.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use rstest::rstest;

use super::*;
use crate::time::SECOND;

/// Everything read from a file of `bytes`, or the message of the first error.
fn read(bytes: &[u8]) -> Result<Vec<Arrival>, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let path = file.path().to_owned();
    let tell = |error: TraceError| error.to_string().replace(&path.display().to_string(), "t");
    Trace::open(&path)
        .map_err(tell)?
        .collect::<Result<_, _>>()
        .map_err(tell)
}

fn arrival(at: u64, input_tokens: u32, output_tokens: u32) -> Arrival {
    Arrival {
        at,
        input_tokens,
        output_tokens,
        prompt: None,
    }
}

const GOOD: &str = "timestamp_s,input_tokens,output_tokens\n0.06,2380,30\n1,0,1\n1.0,7,8\n";

#[test]
fn plain_and_gzip_read_alike() {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(GOOD.as_bytes()).unwrap();
    let want = vec![
        arrival(60_000_000, 2380, 30),
        arrival(SECOND, 0, 1),
        arrival(SECOND, 7, 8),
    ];
    assert_eq!(read(GOOD.as_bytes()), Ok(want.clone()));
    assert_eq!(read(&packed.finish().unwrap()), Ok(want));
}

#[test]
fn columns_are_found_by_name_and_others_are_not_read() {
    let text = "hash, output_tokens ,timestamp_s,input_tokens\r\n1 2 3,4,5.5,6\r\n";
    assert_eq!(
        read(text.as_bytes()),
        Ok(vec![arrival(5_500_000_000, 6, 4)])
    );
}

#[rstest]
#[case::nothing(
    "",
    "trace `t` is empty: its first line must name the columns `timestamp_s,input_tokens,output_tokens`"
)]
#[case::only_a_header(
    "timestamp_s,input_tokens,output_tokens\n",
    "trace `t` has no requests: add a row after the header"
)]
#[case::missing_column(
    "timestamp_s,input_tokens\n1,2\n",
    "trace `t` line 1 has no column `output_tokens`: name the columns `timestamp_s,input_tokens,output_tokens`"
)]
#[case::short_row(
    "timestamp_s,input_tokens,output_tokens\n1,2,3\n4,5\n",
    "trace `t` line 3 cannot be read as CSV: it has 2 fields and the header has 3"
)]
#[case::unsorted(
    "timestamp_s,input_tokens,output_tokens\n2,2,3\n1.5,5,6\n",
    "trace `t` line 3 has `timestamp_s` `1.5`, before the `2` of the line above: sort the rows by time"
)]
#[case::negative_time(
    "timestamp_s,input_tokens,output_tokens\n-1,2,3\n",
    "trace `t` line 2 has `timestamp_s` `-1`: write the seconds since the start of the trace, 0 or more"
)]
#[case::not_a_number(
    "timestamp_s,input_tokens,output_tokens\nNaN,2,3\n",
    "trace `t` line 2 has `timestamp_s` `NaN`: write the seconds since the start of the trace, 0 or more"
)]
#[case::calendar_time(
    "timestamp_s,input_tokens,output_tokens\n1715644800,2,3\n",
    "trace `t` line 2 has `timestamp_s` `1715644800`: write the seconds since the start of the trace, 0 or more"
)]
#[case::negative_tokens(
    "timestamp_s,input_tokens,output_tokens\n1,-2,3\n",
    "trace `t` line 2 has `input_tokens` `-2`: write a whole number of tokens, 0 to 100000000"
)]
#[case::broken_tokens(
    "timestamp_s,input_tokens,output_tokens\n1,2,3\n\n2,2,3.5\n",
    "trace `t` line 4 has `output_tokens` `3.5`: write a whole number of tokens, 0 to 100000000"
)]
#[case::two_characters_end_a_line(
    "timestamp_s,input_tokens,output_tokens\r\n1,2,3\r\n2,2,x\r\n",
    "trace `t` line 3 has `output_tokens` `x`: write a whole number of tokens, 0 to 100000000"
)]
#[case::absurd_tokens(
    "timestamp_s,input_tokens,output_tokens\n1,2,4000000000\n",
    "trace `t` line 2 has `output_tokens` `4000000000`: write a whole number of tokens, 0 to 100000000"
)]
#[case::no_text(
    b"timestamp_s,input_tokens,output_tokens\n1,\xff,3\n",
    "trace `t` line 2 has `input_tokens` `\u{fffd}`: write a whole number of tokens, 0 to 100000000"
)]
fn bad_traces_are_refused_by_line(#[case] text: impl AsRef<[u8]>, #[case] message: &str) {
    assert_eq!(read(text.as_ref()), Err(message.to_owned()));
}

#[test]
fn a_file_that_is_cut_off_is_told() {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    for _ in 0..100 {
        packed
            .write_all(GOOD.replace("timestamp", "time").as_bytes())
            .unwrap();
    }
    let whole = packed.finish().unwrap();
    let message = read(&whole[..whole.len() / 2]).unwrap_err();
    assert!(
        message.contains("line 1 has no column") || message.contains("cannot be read"),
        "{message}"
    );
}

#[test]
fn after_an_error_there_is_nothing_more() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"timestamp_s,input_tokens,output_tokens\n1,x,3\n2,2,2\n")
        .unwrap();
    let mut trace = Trace::open(file.path()).unwrap();
    assert!(trace.next().unwrap().is_err());
    assert!(trace.next().is_none());
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let message = Trace::open(Path::new("/nowhere/trace.csv"))
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("trace `/nowhere/trace.csv` cannot be read: "),
        "{message}"
    );
}
