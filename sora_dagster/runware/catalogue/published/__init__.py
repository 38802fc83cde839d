"""What Runware publishes about its models: read, turned into catalogue entries, and compared."""
