"""The search for a recipe: what a trial is, the study that remembers trials, and the engines that run them."""
