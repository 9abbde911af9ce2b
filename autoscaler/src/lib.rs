//! The controller that scales prefill and decode.
