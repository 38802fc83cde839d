"""HTTP services: the webhook receiver and the viewer."""
