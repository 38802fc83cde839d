"""The sandbox's painter: moving pictures decided by a prompt and a seed."""
