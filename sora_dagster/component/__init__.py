"""The component: a video dataset in YAML, for `dg`."""
