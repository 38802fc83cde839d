"""Reading what is stored: clips, their checks, and their costs."""
