//! What a forecaster does, on loads whose future is known. Real loads are in `tests/forecast.rs`.

use super::*;
