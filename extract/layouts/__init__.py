"""Layouts: how the objects of a bucket become volumes, participants, eyes, splits and labels; one file a layout."""
