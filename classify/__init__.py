"""Store + labels -> heads, tuning, evaluation. Console script: classify."""
