"""The parameters that XGBoost 3.2 knows: it trains on without a word where one is misspelt, so the specification is held against this list.

Source: https://xgboost.readthedocs.io/en/release_3.2.0/parameter.html
"""

from __future__ import annotations

ROUNDS = "rounds"  # Perdure's own: the number of boosting rounds

PARAMETERS = frozenset(
    {
        *("booster", "device", "verbosity", "validate_parameters", "nthread", "n_jobs", "disable_default_eval_metric"),
        *("eta", "learning_rate", "gamma", "min_split_loss", "max_depth", "min_child_weight", "max_delta_step", "subsample"),
        *("sampling_method", "colsample_bytree", "colsample_bylevel", "colsample_bynode", "lambda", "reg_lambda", "alpha", "reg_alpha"),
        *("tree_method", "scale_pos_weight", "updater", "refresh_leaf", "process_type", "grow_policy", "max_leaves", "max_bin"),
        *("num_parallel_tree", "monotone_constraints", "interaction_constraints", "multi_strategy", "max_cached_hist_node"),
        *("max_cat_to_onehot", "max_cat_threshold", "sparse_threshold"),
        *("sample_type", "normalize_type", "rate_drop", "one_drop", "skip_drop"),  # dart
        *("feature_selector", "top_k", "tolerance"),  # gblinear
        *("objective", "base_score", "eval_metric", "seed", "random_state", "seed_per_iteration", "num_class", "boost_from_average"),
        *("tweedie_variance_power", "huber_slope", "quantile_alpha", "aft_loss_distribution", "aft_loss_distribution_scale"),
        *("lambdarank_pair_method", "lambdarank_num_pair_per_sample", "lambdarank_normalization", "lambdarank_score_normalization"),
        *("lambdarank_unbiased", "lambdarank_bias_norm", "ndcg_exp_gain"),
    }
)
