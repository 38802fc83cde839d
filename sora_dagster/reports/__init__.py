"""What there is to see, and what it cost: assets over everything in the storage root."""
