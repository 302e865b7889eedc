"""The survey: what a bucket holds as the table that --scans takes, and what in it would spoil a paper."""
