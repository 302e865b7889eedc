"""Who is analysed: participants, labels, tasks, splits, and the one door where volumes meet them."""
