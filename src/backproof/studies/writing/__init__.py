"""From a record to a page: equations with their numbers, instants of time, pictures."""
