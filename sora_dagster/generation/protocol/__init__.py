"""The records in the storage root that keep a clip from being paid for twice."""
