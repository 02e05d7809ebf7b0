"""Inputs and faults that are meant to do harm: each ends as it should, and disturbs nobody else."""
