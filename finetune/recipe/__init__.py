"""The recipe of a run: its settings, the files they are read from, and the names of the stages."""
