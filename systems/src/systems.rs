//! The systems, a file each.

pub mod apps;
pub mod disaggregated_set;
pub mod dynamo;
pub mod grove;
pub mod kserve;
pub mod kthena;
pub mod llmaz;
pub mod lws;
pub mod production_stack;
pub mod rbg;
pub mod scale;
pub mod storm;
