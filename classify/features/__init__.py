"""From stored vectors to the rows that a head reads."""
