"""What a result must carry: metrics, intervals, p-values, calibration, subgroups, hold-outs."""
