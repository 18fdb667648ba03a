"""Strategies inside of other people's trainers. Each module needs a package of its own."""
