"""What image networks learn, and what their structure says: shifts, depth, skips."""
