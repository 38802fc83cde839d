"""Every setting: its environment variable, and its value in the environment."""
