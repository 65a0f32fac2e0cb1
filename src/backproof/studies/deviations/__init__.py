"""Whether somebody's optimizer is the rule that it claims to be, and if not, in what it deviates."""
