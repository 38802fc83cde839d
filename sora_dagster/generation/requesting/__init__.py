"""From a clip to its POST: plan, price, reserve, send."""
