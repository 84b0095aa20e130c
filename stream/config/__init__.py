"""Files and environment in, frozen specifications out. Everything that is wrong is reported at once."""
