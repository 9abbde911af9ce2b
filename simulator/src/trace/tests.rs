//! Traces as files: what is read from good ones, and what each kind of bad one is told.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use rstest::rstest;

use super::*;
use crate::engine::PromptBlocks;
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
#[case::no_format(
    "a,b,c\n1,2,3\n",
    "trace `t` line 1 is of no known format: `a,b,c`; name the columns `timestamp_s,input_tokens,output_tokens` (or \
     give a trace of Azure, BurstGPT or Mooncake as published)"
)]
#[case::another_encoding(
    b"\xff\xfet\0i\0m\0e\0",
    "trace `t` line 1 is not UTF-8 text: save the file as UTF-8"
)]
#[case::broken_block_ids(
    "timestamp_s,input_tokens,output_tokens,hash_ids_512\n1,2,3,4 x\n",
    "trace `t` line 2 has `hash_ids_512` `4 x`: write whole numbers, separated by spaces"
)]
#[case::azure_without_a_column(
    "TIMESTAMP,ContextTokens\n",
    "trace `t` line 1 has no column `GeneratedTokens`: name the columns `TIMESTAMP,ContextTokens,GeneratedTokens`"
)]
#[case::azure_without_a_date(
    "TIMESTAMP,ContextTokens,GeneratedTokens\n16 Nov,2,3\n",
    "trace `t` line 2 has `TIMESTAMP` `16 Nov`: write a date and a time such as 2024-05-14 00:00:00.009930+00:00"
)]
#[case::azure_unsorted(
    "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:47,2,3\n2023-11-16 18:15:46.9,2,3\n",
    "trace `t` line 3 has `TIMESTAMP` `2023-11-16 18:15:46.9`, before the `2023-11-16 18:15:47` of the line above: \
     sort the rows by time"
)]
#[case::burstgpt_without_a_column(
    "Timestamp,Model,Request tokens\n",
    "trace `t` line 1 has no column `Response tokens`: name the columns `Timestamp,Request tokens,Response tokens`"
)]
#[case::burstgpt_unsorted(
    "Timestamp,Request tokens,Response tokens\n5,1,1\n4,1,1\n",
    "trace `t` line 3 has `Timestamp` `4`, before the `5` of the line above: sort the rows by time"
)]
#[case::only_failures(
    "Timestamp,Request tokens,Response tokens\n5,1,0\n",
    "trace `t` has no requests: add a row after the header"
)]
#[case::mooncake_broken(
    "{\"timestamp\": 0, \"input_length\": 5, \"output_length\": 6}\n{\"timestamp\": 1, \n",
    "trace `t` line 2 cannot be read as JSON: EOF while parsing a value at column 16"
)]
#[case::mooncake_without_a_field(
    "{\"timestamp\": 0, \"input_length\": 5}\n",
    "trace `t` line 1 has `output_length` `nothing`: write a whole number of tokens, 0 to 100000000"
)]
#[case::mooncake_negative(
    "\n{\"timestamp\": 0, \"input_length\": -5, \"output_length\": 6}\n",
    "trace `t` line 2 has `input_length` `-5`: write a whole number of tokens, 0 to 100000000"
)]
#[case::mooncake_unsorted(
    "{\"timestamp\":9,\"input_length\":5,\"output_length\":6}\n{\"timestamp\":3,\"input_length\":5,\"output_length\":6}\n",
    "trace `t` line 2 has `timestamp` `3`, before the `9` of the line above: sort the rows by time"
)]
#[case::mooncake_in_bytes(
    b"{\"timestamp\":9,\"input_length\":5,\"output_length\":6}\n{\"\xff\"}\n",
    "trace `t` line 2 is not UTF-8 text: save the file as UTF-8"
)]
#[case::no_text(
    b"timestamp_s,input_tokens,output_tokens\n1,\xff,3\n",
    "trace `t` line 2 has `input_tokens` `\u{fffd}`: write a whole number of tokens, 0 to 100000000"
)]
fn bad_traces_are_refused_by_line(#[case] text: impl AsRef<[u8]>, #[case] message: &str) {
    assert_eq!(read(text.as_ref()), Err(message.to_owned()));
}

/// Gzip of `rows` rows of noise, which takes many blocks, after a header.
fn packed(rows: u64) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    writeln!(packed, "timestamp_s,input_tokens,output_tokens").unwrap();
    for row in 0..rows {
        let noise = row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        writeln!(packed, "{row},{noise},{}", noise / 3).unwrap();
    }
    packed.finish().unwrap()
}

#[test]
fn a_file_that_is_cut_off_is_told_with_the_line_before() {
    let whole = packed(20_000);
    assert_eq!(read(&whole).unwrap().len(), 20_000);
    let message = read(&whole[..whole.len() / 2]).unwrap_err();
    let told = message.strip_prefix("trace `t` cannot be read beyond line ");
    let (line, rest) = told.unwrap().split_once(':').unwrap();
    let line: u64 = line.parse().unwrap();
    assert!((5_000..15_000).contains(&line), "{message}");
    assert!(
        rest.ends_with("; the file is damaged or cut off, fetch it again"),
        "{message}"
    );
    let message = read(&whole[..12]).unwrap_err();
    assert!(
        message.starts_with("trace `t` cannot be read beyond line 0: "),
        "{message}"
    );
}

/// The first three rows of each published format, as small files of our own.
#[rstest]
#[case::azure_2023("azure2023.csv", 0, &[374, 396, 879], &[44, 109, 55])]
#[case::azure_2024("azure2024.csv", 0, &[2162, 2399, 76], &[5, 6, 15])]
#[case::burstgpt("burstgpt.csv", 5 * SECOND, &[472, 1087, 417], &[18, 230, 276])]
#[case::mooncake("mooncake.jsonl", 0, &[6758, 7322, 7236], &[500, 490, 794])]
fn published_formats_are_told_by_their_first_line(
    #[case] name: &str,
    #[case] first: u64,
    #[case] prompts: &[u32],
    #[case] answers: &[u32],
) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("data/traces")
        .join(name);
    let bytes = std::fs::read(&path).unwrap();
    let arrivals = read(&bytes).unwrap();
    assert_eq!(arrivals[0].at, first);
    let of = |field: fn(&Arrival) -> u32| arrivals.iter().take(3).map(field).collect::<Vec<_>>();
    assert_eq!(of(|arrival| arrival.input_tokens), prompts);
    assert_eq!(of(|arrival| arrival.output_tokens), answers);
    assert!(arrivals.windows(2).all(|pair| pair[0].at <= pair[1].at));
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(&bytes).unwrap();
    assert_eq!(read(&packed.finish().unwrap()), Ok(arrivals.clone()));
    // A mark at the beginning, as editors of another system leave it.
    let marked = [b"\xef\xbb\xbf".as_slice(), &bytes].concat();
    assert_eq!(read(&marked), Ok(arrivals));
}

#[test]
fn blocks_of_prompts_are_the_same_in_both_formats_that_have_them() {
    let lines = "{\"timestamp\":60,\"input_length\":700,\"output_length\":3,\"hash_ids\":[0,46]}\n";
    let rows = "timestamp_s,input_tokens,output_tokens,hash_ids_512\n0.06,700,3,0 46\n";
    let prompt = PromptBlocks::new(512, vec![0, 46]);
    let want = Arrival {
        prompt: Some(std::sync::Arc::new(prompt)),
        ..arrival(60_000_000, 700, 3)
    };
    assert_eq!(read(lines.as_bytes()), Ok(vec![want.clone()]));
    assert_eq!(read(rows.as_bytes()), Ok(vec![want]));
}

#[test]
fn requests_that_failed_are_left_out() {
    let text = "Timestamp,Request tokens,Response tokens\n1,5,0\n2,6,7\n3,8,0\n";
    assert_eq!(read(text.as_bytes()), Ok(vec![arrival(2 * SECOND, 6, 7)]));
}

/// The real files, where they are.
#[test]
fn real_traces_are_read_whole() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces");
    for (name, requests) in [
        ("azure2023_conv.csv.gz", 19_366),
        ("azure2023_code.csv.gz", 8_819),
        ("mooncake_conversation.csv.gz", 12_031),
    ] {
        let path = folder.join(name);
        if !path.exists() {
            eprintln!("skipped: there is no {name}");
            continue;
        }
        let arrivals: Vec<Arrival> = Trace::open(&path).unwrap().map(Result::unwrap).collect();
        assert_eq!(arrivals.len(), requests);
        let with_blocks = arrivals.iter().filter(|arrival| arrival.prompt.is_some());
        let all = if name.starts_with("mooncake") {
            requests
        } else {
            0
        };
        assert_eq!(with_blocks.count(), all);
    }
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
