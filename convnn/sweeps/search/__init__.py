"""A search: trials that Optuna proposes, in place of every cell of a grid."""
