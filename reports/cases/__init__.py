"""The parts of a case page: whose, which scans, their pictures and maps, and what the page says of them."""
