"""The survey: what a bucket holds, scan by scan, as the table that --scans takes; and what in it would spoil a paper."""
