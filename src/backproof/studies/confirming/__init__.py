"""Every number of a record, obtained again by independent means."""
