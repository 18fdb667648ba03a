"""Trains jobs on Ray: on this machine or on a cluster, whatever comes between."""
