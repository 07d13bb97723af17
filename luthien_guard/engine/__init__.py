"""Decides what leaves. Pure: no clock of its own, no I/O, no tasks; it awaits hooks and nothing else."""
