"""Studies: plans, and what the commands that train do step by step."""
