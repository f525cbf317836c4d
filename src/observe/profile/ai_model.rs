//! `ai_model`: are the models there?

use std::sync::Arc;

use super::BuiltIn;
use crate::model::Criticality;
use crate::observe::checks::file_set::FileSet;

/// The model files; three of them make a full vote.
const MODELS: [&str; 4] = ["xgb_model.pkl", "lgbm_model.pkl", "nhits_model.pth", "patchtst_model.pth"];

/// The subsystem as the registry lists it.
pub const BUILT_IN: BuiltIn = BuiltIn {
    name: "ai_model",
    criticality: Criticality::Partial,
    depends_on: &[],
    build: |context| {
        let folder = context.workspace.join("models");
        let paths = MODELS.map(|name| folder.join(name)).into();
        Arc::new(FileSet { paths, healthy_at: 3, degraded_at: 2, count_key: "existing_models" })
    },
    doc: "How many of the four model files exist under `models/`: healthy with 3 or 4, degraded with 2, critical with \
          fewer.",
};
