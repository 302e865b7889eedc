"""A split that is judged: validation, the locked test, and the lines of a prediction."""
