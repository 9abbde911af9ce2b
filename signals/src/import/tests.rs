//! Profiles imported from the fixtures, and the message for every malformed text.
//!
//! The fixtures have the forms of the real files, cut to a few rows, with the flaws that real ones
//! have: rows in any order, columns that are not needed, several parallelisms, a disturbed point.
//! For errors one cell of a good text is changed, and the whole message is compared: it is what
//! users get.

use pd_core::capacity::profile::{DecodeModel, PrefillModel};
use rstest::rstest;

use super::{ImportError, aiconfigurator, dynamo, inline, table};

const PREFILL: &str = include_str!("../../tests/fixtures/capacity/prefill.csv");
const DECODE: &str = include_str!("../../tests/fixtures/capacity/decode.csv");
const KV: &str = include_str!("../../tests/fixtures/capacity/kv.csv");
const SWEPT_PREFILL: &str = include_str!("../../tests/fixtures/capacity/dynamo_prefill.csv");
const SWEPT_DECODE: &str = include_str!("../../tests/fixtures/capacity/dynamo_decode.csv");
const RESULT: &str = include_str!("../../tests/fixtures/capacity/best_config_topn.csv");
const GENERATOR: &str = include_str!("../../tests/fixtures/capacity/generator_config.yaml");
const INLINE: &str = "
prefill: { baseMilliseconds: 8.0, millisecondsPerKilotoken: 41.9, millisecondsPerMegatokenSquared: 0.478 }
decode: { baseMilliseconds: 8.64, millisecondsPerRequest: 0.047, millisecondsPerMegatoken: 13.4 }
kvCapacityTokens: 2760000
batchMax: 256
";

#[test]
fn tables_import_whatever_the_order_of_rows() {
    let profile = table::profile(PREFILL, DECODE, Some(KV), 4).unwrap();
    let near =
        |found: f64, wanted: f64| assert!((found / wanted - 1.0).abs() < 1e-9, "{found} {wanted}");
    near(profile.prefill.as_ref().unwrap().seconds(512.0, 0.0), 0.030);
    near(profile.prefill.as_ref().unwrap().seconds(768.0, 0.0), 0.040);
    // 2,048 tokens after 2,048 cached.
    near(
        profile.prefill.as_ref().unwrap().seconds(2_048.0, 2_048.0),
        0.105,
    );
    near(
        profile.decode.as_ref().unwrap().itl_seconds(64.0, 8_192.0),
        0.019,
    );
    near(
        profile.decode.as_ref().unwrap().itl_seconds(64.0, 4_608.0),
        0.016,
    );
    assert_eq!(profile.kv_capacity_tokens, Some(2_764_994.0));
    // Points that never ran for lack of memory are not in the table.
    assert!(profile.prefill.as_ref().unwrap().seconds(8_192.0, 0.0) < 0.4);
    assert!(profile.batch_within(1.0, 8_192.0) < 129.0);
}

#[test]
fn a_sweep_imports_without_what_disturbed_it() {
    let profile = dynamo::profile(SWEPT_PREFILL, SWEPT_DECODE, 8).unwrap();
    assert!((profile.prefill.as_ref().unwrap().seconds(6_205.0, 0.0) - 0.241_65).abs() < 1e-4);
    // 80 requests at once were offered, of which 21 ran.
    assert!((profile.batch_within(1.0, 1_000.0) - 40.0).abs() < 1e-9);
    assert!((profile.decode.as_ref().unwrap().itl_seconds(20.0, 1_000.0) - 0.014).abs() < 1e-12);
    assert_eq!(profile.kv_capacity_tokens, Some(100_000.0));
}

#[test]
fn operating_points_are_read_by_header() {
    let points = aiconfigurator::operating_points(RESULT).unwrap();
    assert_eq!(points.len(), 2);
    let [first, second] = [&points[0], &points[1]];
    assert_eq!(
        (first.workers.prefill, first.workers.decode, first.gpus()),
        (5, 3, 32)
    );
    assert!((first.ttft_seconds - 0.382_615).abs() < 1e-12);
    assert_eq!(
        (
            second.gpus_per_worker.decode,
            second.batch.decode,
            second.gpus()
        ),
        (8, 76, 16)
    );
}

#[test]
fn a_deployment_is_read_from_its_generator_config() {
    let deployment = aiconfigurator::deployment(GENERATOR).unwrap();
    assert_eq!(
        (deployment.workers.prefill, deployment.workers.decode),
        (5, 3)
    );
    assert_eq!(deployment.batch_max.decode, Some(64));
    assert!((deployment.tpot_seconds - 0.015_439).abs() < 1e-12);
}

#[test]
fn coefficients_are_read_in_milliseconds() {
    let profile = inline::profile(INLINE).unwrap();
    let (Some(PrefillModel::Coefficients(prefill)), Some(DecodeModel::Coefficients(decode))) =
        (&profile.prefill, &profile.decode)
    else {
        panic!("{profile:?}")
    };
    assert!((prefill.seconds_per_token - 41.9e-6).abs() < 1e-15);
    assert!((decode.seconds_per_context_token - 13.4e-9).abs() < 1e-18);
    // 8.64 ms + 64 * 0.047 ms + 64 * 4000 * 13.4 ns.
    assert!(
        (profile.decode.as_ref().unwrap().itl_seconds(64.0, 4_000.0) - 0.015_078_4).abs() < 1e-9
    );
}

fn message_of(result: Result<impl Sized, ImportError>) -> String {
    result
        .err()
        .map_or_else(|| "accepted".to_owned(), |error| error.to_string())
}

#[rstest]
#[case::no_text(
    "",
    "prefill table has no rows: give at least one line below the header"
)]
#[case::header_only(
    "tp,batch\n",
    "prefill table has no rows: give at least one line below the header"
)]
#[case::no_column(
    &PREFILL.replace("isl", "length"),
    "prefill table has no column `isl`: export it again with that column"
)]
#[case::column_twice(
    &PREFILL.replace("memory_gib", "isl"),
    "prefill table has column `isl` twice: leave one of them out"
)]
#[case::word(
    "tp,batch,isl,cached_prefix_tokens,prefill_ms\n4,1,512,0,fast\n",
    "line 2, column `prefill_ms`: `fast` is not a number of milliseconds above 0 and up to one day"
)]
#[case::nan(
    "tp,batch,isl,cached_prefix_tokens,prefill_ms\n4,1,512,0,NaN\n",
    "line 2, column `prefill_ms`: `NaN` is not a number of milliseconds above 0 and up to one day"
)]
#[case::infinite(
    "tp,batch,isl,cached_prefix_tokens,prefill_ms\n4,1,512,0,inf\n",
    "line 2, column `prefill_ms`: `inf` is not a number of milliseconds above 0 and up to one day"
)]
#[case::negative(
    "tp,batch,isl,cached_prefix_tokens,prefill_ms\n4,1,512,0,-3\n",
    "line 2, column `prefill_ms`: `-3` is not a number of milliseconds above 0 and up to one day"
)]
#[case::empty_cell(
    "tp,batch,isl,cached_prefix_tokens,prefill_ms\n4,1,,0,3\n",
    "line 2, column `isl`: `` is not a number of tokens from 1 to 1e8"
)]
#[case::short_line(
    "tp,batch,isl,cached_prefix_tokens,prefill_ms\n4,1,512\n",
    "line 2: has 3 columns and the header 5: repair the line"
)]
#[case::all_cached(
    "tp,batch,isl,cached_prefix_tokens,prefill_ms\n4,1,512,512,3\n",
    "line 2, column `cached_prefix_tokens`: `512` is not less than `isl`"
)]
#[case::duplicate(
    "tp,batch,isl,cached_prefix_tokens,prefill_ms\n4,1,512,0,3\n4,1,512,0,4\n",
    "line 3 measures batch 1, isl 512 with 0 cached again, after line 2: leave one of them out"
)]
#[case::falls(
    "tp,batch,isl,cached_prefix_tokens,prefill_ms\n4,1,512,0,30\n4,1,1024,0,3\n",
    "line 3, column `prefill_ms`: `3` is far below the `30` of line 2, which is smaller work: measure one \
     of them again or leave it out"
)]
#[case::one_point(
    "tp,batch,isl,cached_prefix_tokens,prefill_ms\n4,1,512,0,30\n",
    "prefill over tokens has 1 points: give at least 2"
)]
#[case::other_parallelism(
    "tp,batch,isl,cached_prefix_tokens,prefill_ms\n1,1,512,0,30\n2,1,512,0,20\n",
    "prefill table has no rows with tensor parallelism `4`: it has 1, 2"
)]
fn a_malformed_table_is_refused_with_place_and_cause(#[case] text: &str, #[case] message: &str) {
    assert_eq!(message_of(table::prefill_table(text, 4)), message);
}

#[test]
fn small_dips_of_measurement_are_kept() {
    let text = PREFILL.replace("4,1,2048,0,95.0", "4,1,2048,0,40.0");
    let table = table::prefill_table(&text, 4).unwrap();
    assert!((table.seconds(2_048.0, 0.0) - 0.040).abs() < 1e-12);
}

#[test]
fn a_result_without_roles_is_refused() {
    let aggregated = "isl,osl,prefix,ttft,tpot\n4000,500,0,300,10\n";
    assert_eq!(
        message_of(aiconfigurator::operating_points(aggregated)),
        "AIConfigurator result of a disaggregated run has no column `(p)workers`: export it again with \
         that column"
    );
    let text = RESULT.replace("3,4000,500", "2.5,4000,500");
    assert_eq!(
        message_of(aiconfigurator::operating_points(&text)),
        "line 2, column `(d)workers`: `2.5` is not a whole number from 1 to 1000000"
    );
    let text = GENERATOR.replace("prefill_workers: 5", "prefill_workers: 0");
    assert_eq!(
        message_of(aiconfigurator::deployment(&text)),
        "field `WorkerConfig.prefill_workers` is `0`: import the configuration of a disaggregated run, \
         with 1 or more"
    );
    let text = GENERATOR.replace("tpot: 15.439", "tpot: .nan");
    assert_eq!(
        message_of(aiconfigurator::deployment(&text)),
        "field `SlaConfig.tpot` is `NaN`: give a number above 0 and up to 1e9"
    );
}

#[rstest]
#[case::misspelt(
    "millisecondsPerRequest",
    "millisecondPerRequest",
    "millisecondPerRequest"
)]
#[case::missing("baseMilliseconds: 8.64, ", "", "baseMilliseconds")]
#[case::negative(
    "41.9",
    "-41.9",
    "profile field `prefill.secondsPerToken` is `-0.00004"
)]
#[case::nan(
    "13.4",
    ".nan",
    "profile field `decode.secondsPerContextToken` is `NaN`"
)]
#[case::zero("8.64", "0", "profile field `decode.baseSeconds` is `0`")]
#[case::no_kv("2760000", "0", "profile field `kvCapacityTokens` is `0`")]
#[case::no_batch("256", "0", "profile field `batchMax` is `0`")]
#[case::no_yaml("prefill:", "prefill: [", "")]
fn bad_coefficients_are_refused(#[case] good: &str, #[case] bad: &str, #[case] part: &str) {
    let message = message_of(inline::profile(&INLINE.replacen(good, bad, 1)));
    assert!(message != "accepted" && message.contains(part), "{message}");
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn no_text_panics() {
    let texts = [
        "\u{0}",
        "\"",
        ",,,\n,,,",
        "\u{feff}a\n1",
        "- - -",
        "{",
        "é,\u{202e}\n1,2",
        "&a [*a]",
    ];
    for text in texts {
        assert_ne!(
            message_of(table::profile(text, text, Some(text), 1)),
            "accepted"
        );
        assert_ne!(message_of(dynamo::profile(text, text, 1)), "accepted");
        assert_ne!(
            message_of(aiconfigurator::operating_points(text)),
            "accepted"
        );
        assert_ne!(message_of(aiconfigurator::deployment(text)), "accepted");
        assert_ne!(message_of(inline::profile(text)), "accepted");
    }
    let large = "x".repeat(super::TEXT_BYTES_MAX + 1);
    assert!(message_of(inline::profile(&large)).starts_with("text has 4194305 bytes"));
}
