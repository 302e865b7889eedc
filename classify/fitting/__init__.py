"""The model of a run: features, head, aggregation, fitted and read again as one."""
