"""The published comparison in one command: datasets x encoders x heads by a plan, and the table of a paper."""
