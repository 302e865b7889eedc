"""Explanations, figures, HTML pages and the MLflow mirror of a finished run. Console script: reports."""
