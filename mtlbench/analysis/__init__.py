"""From stored runs to tables and figures. Reads the store only, never the trainer."""
