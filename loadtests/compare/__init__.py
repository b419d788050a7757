"""Two things side by side: direct and through the gateway, a run and its baseline."""
