//! Laws of profiles: tables against the formulas that made them, batches against brute force.
//!
//! A table made from coefficients must agree with them everywhere inside, because lines are exact
//! for the formula. The largest batch is checked by trying every batch. Any argument gets an
//! answer.

use proptest::prelude::*;

use super::*;

fn coefficients() -> Profile {
    Profile {
        prefill: Some(PrefillModel::Coefficients(PrefillCoefficients {
            base_seconds: 0.008,
            seconds_per_token: 41.9e-6,
            seconds_per_token_squared: 0.478e-9,
        })),
        decode: Some(DecodeModel::Coefficients(DecodeCoefficients {
            base_seconds: 0.008_64,
            seconds_per_request: 0.047e-3,
            seconds_per_context_token: 13.4e-9,
        })),
        kv_capacity_tokens: Some(2_760_000.0),
        batch_max: Some(512),
    }
}

/// The same replica, as a table over batches 1 to 256 and contexts 128 to 32,768.
fn tabled() -> Profile {
    let made = coefficients();
    let batches = [1.0, 8.0, 32.0, 64.0, 128.0, 256.0];
    let curve = |context: f64| {
        let points = batches.map(|batch| {
            (
                batch,
                made.decode.as_ref().unwrap().itl_seconds(batch, context),
            )
        });
        (context, points.to_vec())
    };
    let curves = [128.0, 1_024.0, 8_192.0, 32_768.0].map(curve).to_vec();
    let lengths = [64.0, 512.0, 4_096.0, 32_768.0];
    let points = lengths
        .map(|tokens| (tokens, made.prefill.as_ref().unwrap().seconds(tokens, 0.0)))
        .to_vec();
    Profile {
        prefill: Some(PrefillModel::Table(
            PrefillTable::new(points, 2.0 * 0.478e-9).unwrap(),
        )),
        decode: Some(DecodeModel::Table(DecodeTable::new(curves).unwrap())),
        ..made
    }
}

proptest! {
    #[test]
    fn a_table_of_the_formula_is_the_formula(batch in 1.0f64..256.0, context in 128.0f64..32_768.0) {
        let formula = coefficients().decode.as_ref().unwrap().itl_seconds(batch, context);
        let table = tabled().decode.as_ref().unwrap().itl_seconds(batch, context);
        prop_assert!((table / formula - 1.0).abs() < 1e-9, "{table} {formula}");
    }

    #[test]
    fn the_largest_batch_is_what_trying_every_batch_finds(
        limit_ms in 5.0f64..60.0, context in 1.0f64..60_000.0, table in any::<bool>(),
    ) {
        let profile = if table { tabled() } else { coefficients() };
        let limit = limit_ms * 1e-3;
        let held = if table { 256.0 } else { 512.0_f64 };
        let held = held.min(2_760_000.0 / context);
        let tried = (1..=512_u32)
            .map(f64::from)
            .take_while(|batch| *batch <= held && profile.decode.as_ref().unwrap().itl_seconds(*batch, context) <= limit)
            .last()
            .unwrap_or(1.0);
        let found = profile.batch_within(limit, context);
        prop_assert!((found.floor() - tried).abs() < 0.5, "{found} {tried}");
    }

    #[test]
    fn any_argument_gets_an_answer(one in any::<f64>(), other in any::<f64>()) {
        for profile in [coefficients(), tabled()] {
            let seconds = profile.prefill.as_ref().unwrap().seconds(one, other);
            prop_assert!((0.0..=SECONDS_MAX).contains(&seconds), "{seconds}");
            let seconds = profile.decode.as_ref().unwrap().itl_seconds(one, other);
            prop_assert!((0.0..=SECONDS_MAX).contains(&seconds), "{seconds}");
            let batch = profile.batch_within(one, other);
            prop_assert!((1.0..=512.0).contains(&batch), "{batch}");
        }
    }

    #[test]
    fn more_work_never_takes_less_time(one in 1.0f64..1e6, more in 0.0f64..1e6, other in 0.0f64..1e5) {
        for profile in [coefficients(), tabled()] {
            let prefill = |tokens| profile.prefill.as_ref().unwrap().seconds(tokens, other);
            prop_assert!(prefill(one + more) >= prefill(one) - 1e-12);
            let decode = |batch| profile.decode.as_ref().unwrap().itl_seconds(batch, other);
            prop_assert!(decode(one + more) >= decode(one) - 1e-12);
        }
    }
}

#[test]
fn batches_stop_at_the_first_that_is_too_slow() {
    // Kernels change at 64: slower just before than after.
    let points = vec![(1.0, 0.010), (32.0, 0.020), (64.0, 0.016), (128.0, 0.030)];
    let table = DecodeTable::new(vec![(1_024.0, points)]).unwrap();
    let within = table.batch_within(0.018, 1_024.0, 128.0).unwrap();
    assert!((within - 25.8).abs() < 0.01, "{within}");
}

#[test]
fn a_profile_survives_json_and_keeps_its_fingerprint() {
    for profile in [coefficients(), tabled()] {
        let text = serde_json::to_string(&profile).unwrap();
        let read: Profile = serde_json::from_str(&text).unwrap();
        assert_eq!(read, profile);
        assert_eq!(read.fingerprint(), profile.fingerprint());
    }
    assert_ne!(coefficients().fingerprint(), tabled().fingerprint());
}

#[test]
fn a_table_read_from_json_is_checked() {
    let json = r#"[{"contextTokens":1024,"points":[[1,0.01],[1,0.02]]}]"#;
    let error = serde_json::from_str::<DecodeTable>(json)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("decode at 1024 tokens of context has `1` after `1`: sort it"),
        "{error}"
    );
    let json = r#"{"points":[[64,0.5],[128,0.05]]}"#;
    let error = serde_json::from_str::<PrefillTable>(json)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("falls to `0.05` seconds at `128` after `0.5`"),
        "{error}"
    );
}
