"""What Runware publishes about models without a key, made from the catalogue."""
