"""Readers: the files of one scan, of whatever kind, become one Volume or a reasoned refusal."""
