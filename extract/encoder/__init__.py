"""The frozen encoder: its architecture, the files it comes from, and its random twin."""
