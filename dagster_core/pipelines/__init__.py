"""Jobs that are not made of assets."""
