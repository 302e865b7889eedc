"""What can be said without the encoder: covariates, pixels, random weights."""
