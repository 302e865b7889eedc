"""What a run remembers of its training volumes, so that a new volume can be told apart from them or beside them."""
