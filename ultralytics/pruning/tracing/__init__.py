"""Which channels a network has, which are one, which must stay: found by running it once."""
