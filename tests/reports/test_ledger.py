"""The page says how often people of the test split were looked at, and never "never" above numbers of test."""
