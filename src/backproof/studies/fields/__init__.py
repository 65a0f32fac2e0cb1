"""What units see: receptive fields and output sizes."""
