"""From token numbers back to places in the eye: millimetres, sectors, slabs of B-scans."""
