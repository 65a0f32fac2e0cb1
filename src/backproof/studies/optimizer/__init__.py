"""What an update rule does and keeps."""
