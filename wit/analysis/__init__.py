"""From scores to a decision: the grid, the choice and its uncertainty, the report."""
