"""What every command says and knows of itself: console, progress, versions."""
